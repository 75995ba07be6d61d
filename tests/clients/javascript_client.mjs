// The JavaScript client against the cluster of $KUBECONFIG: objects, refusals, every patch type, watch, informer, exec.
//
// Usage: node javascript_client.mjs MODULES [NAMESPACE POD]   (MODULES is a directory with node_modules/; the pod must have a shell)
// Exits with 1 and names the step that failed.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { pathToFileURL } from 'node:url';

const [modules, podNamespace, pod] = process.argv.slice(2);
const entry = createRequire(join(modules, 'here.js')).resolve('@kubernetes/client-node');
const k8s = await import(pathToFileURL(entry));

const namespace = `javascript-${process.pid}`;
const kubeconfig = new k8s.KubeConfig();
kubeconfig.loadFromDefault();
const core = kubeconfig.makeApiClient(k8s.CoreV1Api);

const LIMIT_MS = 20_000;
const configMap = (name, value) => ({ metadata: { name, labels: { app: 'javascript' } }, data: { key: value } });
const create = (name) => core.createNamespacedConfigMap({ namespace, body: configMap(name, '1') });
const refused = (code, call) => assert.rejects(call, (error) => error.code === code, `a refusal with ${code}`);

/** Resolves when `until` says so, and fails after a while. */
function within(what, work) {
    return new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`${what}: not within ${LIMIT_MS} ms`)), LIMIT_MS);
        work((value) => (clearTimeout(timer), resolve(value)), (error) => (clearTimeout(timer), reject(error)));
    });
}

async function objects() {
    const created = await create('a');
    assert.ok(created.metadata.uid);
    await refused(409, () => create('a'));
    await refused(404, () => core.readNamespacedConfigMap({ namespace, name: 'none' }));
    await refused(422, () => create('Not_A_Name'));
    const replaced = await core.replaceNamespacedConfigMap({ namespace, name: 'a', body: { ...created, data: { key: '2' } } });
    assert.equal(replaced.data.key, '2');
    await refused(409, () => core.replaceNamespacedConfigMap({ namespace, name: 'a', body: { ...created, data: { key: '3' } } }));
    const listed = await core.listNamespacedConfigMap({ namespace, labelSelector: 'app=javascript' });
    assert.deepEqual(listed.items.map((map) => map.metadata.name), ['a']);
}

async function patches() {
    const patch = (body, type) =>
        core.patchNamespacedConfigMap(
            { namespace, name: 'a', body, fieldManager: 'javascript', force: type === k8s.PatchStrategy.ServerSideApply || undefined },
            k8s.setHeaderOptions('Content-Type', type),
        );
    const strategy = k8s.PatchStrategy;
    const bodies = [
        [[{ op: 'replace', path: '/data/key', value: 'x' }], strategy.JsonPatch],
        [{ data: { key: 'x' } }, strategy.MergePatch],
        [{ data: { key: 'x' } }, strategy.StrategicMergePatch],
        [{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a' }, data: { key: 'x' } }, strategy.ServerSideApply],
    ];
    for (const [body, type] of bodies) {
        assert.equal((await patch(body, type)).data.key, 'x', type);
    }
}

async function watches() {
    const { metadata } = await core.listNamespacedConfigMap({ namespace });
    await create('w');
    await core.deleteNamespacedConfigMap({ namespace, name: 'w' });
    const seen = [];
    await within('a watch', (resolve, reject) => {
        const watch = new k8s.Watch(kubeconfig);
        let request;
        const event = (type, object) => {
            seen.push([type, object.metadata.name]);
            if (type === 'DELETED') resolve(request?.then((controller) => controller.abort()));
        };
        const query = { resourceVersion: metadata.resourceVersion };
        request = watch.watch(`/api/v1/namespaces/${namespace}/configmaps`, query, event, (error) => error && reject(error));
    });
    assert.deepEqual(seen, [['ADDED', 'w'], ['DELETED', 'w']]);
}

async function informer() {
    const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'app=javascript' });
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const maps = k8s.makeInformer(kubeconfig, path, list, 'app=javascript');
    const known = new Set();
    await within('an informer', (resolve, reject) => {
        maps.on('add', (map) => known.add(map.metadata.name).size === 6 && resolve());
        maps.on('error', reject);
        maps.start().then(async () => {
            for (let i = 0; i < 5; i += 1) await create(`late-${i}`);
        }, reject);
    });
    await maps.stop();
    assert.deepEqual([...known].sort(), ['a', ...Array.from({ length: 5 }, (_, i) => `late-${i}`)]);
}

async function leases() {
    const api = kubeconfig.makeApiClient(k8s.CoordinationV1Api);
    const now = new k8s.V1MicroTime();
    const spec = (holderIdentity) => ({ holderIdentity, leaseDurationSeconds: 15, acquireTime: now, renewTime: now });
    const lease = await api.createNamespacedLease({ namespace, body: { metadata: { name: 'leader' }, spec: spec('one') } });
    const take = (holder) => api.replaceNamespacedLease({ namespace, name: 'leader', body: { ...lease, spec: spec(holder) } });
    assert.equal((await take('two')).spec.holderIdentity, 'two');
    // Who read the lease before the other took it must not take it as well.
    await refused(409, () => take('three'));
}

async function execute() {
    const [out, err] = [new PassThrough(), new PassThrough()];
    const text = { out: '', err: '' };
    out.on('data', (chunk) => (text.out += chunk));
    err.on('data', (chunk) => (text.err += chunk));
    const container = (await core.readNamespacedPod({ namespace: podNamespace, name: pod })).spec.containers[0].name;
    const status = await within('exec', (resolve, reject) => {
        const command = ['sh', '-c', 'echo out; echo err >&2; exit 3'];
        new k8s.Exec(kubeconfig).exec(podNamespace, pod, container, command, out, err, null, false, resolve).catch(reject);
    });
    assert.equal(status.reason, 'NonZeroExitCode');
    assert.equal(status.details.causes[0].message, '3');
    assert.deepEqual(text, { out: 'out\n', err: 'err\n' });
}

const steps = { 'objects and refusals': objects, patches, watch: watches, informer, 'leader election': leases };
if (pod) steps.exec = execute;
await core.createNamespace({ body: { metadata: { name: namespace } } });
try {
    for (const [name, step] of Object.entries(steps)) {
        console.log(`javascript: ${name}`);
        await step();
    }
} finally {
    await core.deleteNamespace({ name: namespace });
}
console.log('javascript: all steps passed');
process.exit(0);
