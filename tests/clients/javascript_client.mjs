// The JavaScript client against the cluster of $KUBECONFIG: objects, refusals, every patch type, watch, informer, leader
// election, exec.
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

/** What a watch from that revision sees up to that event, and the revision there. */
async function until(resourceVersion, last) {
    const seen = [];
    let request;
    const result = await within(`a watch up to ${last}`, (resolve, reject) => {
        const event = (type, object) => {
            seen.push(`${type} ${object.metadata.name}`);
            if (seen.at(-1) === last) resolve([[...seen], object.metadata.resourceVersion]);
        };
        const path = `/api/v1/namespaces/${namespace}/configmaps`;
        request = new k8s.Watch(kubeconfig).watch(path, { resourceVersion }, event, (error) => error && reject(error));
    });
    (await request).abort();
    return result;
}

/** A watch, and another one that goes on where it ended. */
async function watches() {
    const { metadata } = await core.listNamespacedConfigMap({ namespace });
    const created = await create('w');
    await core.replaceNamespacedConfigMap({ namespace, name: 'w', body: { ...created, data: { key: '2' } } });
    await core.deleteNamespacedConfigMap({ namespace, name: 'w' });
    const [first, revision] = await until(metadata.resourceVersion, 'MODIFIED w');
    assert.deepEqual(first, ['ADDED w', 'MODIFIED w']);
    const [rest] = await until(revision, 'DELETED w');
    assert.deepEqual(rest, ['DELETED w']);
}

/** The cache sees what is created, changed and deleted after it was filled. */
async function informer() {
    const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'app=javascript' });
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const maps = k8s.makeInformer(kubeconfig, path, list, 'app=javascript');
    const names = () => maps.list(namespace).map((map) => map.metadata.name).sort();
    const wanted = ['a', ...Array.from({ length: 4 }, (_, i) => `late-${i}`)];
    await within('an informer', (resolve, reject) => {
        const check = () => {
            const changed = maps.get('late-0', namespace)?.data.key === '2';
            if (changed && JSON.stringify(names()) === JSON.stringify(wanted)) resolve();
        };
        for (const event of ['add', 'update', 'delete']) maps.on(event, check);
        maps.on('error', reject);
        const write = async () => {
            for (let i = 0; i < 5; i += 1) await create(`late-${i}`);
            const late = await core.readNamespacedConfigMap({ namespace, name: 'late-0' });
            await core.replaceNamespacedConfigMap({ namespace, name: 'late-0', body: { ...late, data: { key: '2' } } });
            await core.deleteNamespacedConfigMap({ namespace, name: 'late-4' });
        };
        maps.start().then(write).catch(reject);
    });
    await maps.stop();
    assert.deepEqual(names(), wanted);
}

/** One that wants to lead: it takes the Lease when there is none or when nobody renews it. The client has no election of its own. */
class Candidate {
    static api = kubeconfig.makeApiClient(k8s.CoordinationV1Api);
    static durationMs = 1000;
    seen = { renewTime: undefined, at: 0 };

    constructor(name) {
        this.name = name;
    }

    async lead() {
        try {
            const lease = await this.read();
            if (!lease) {
                await Candidate.api.createNamespacedLease({ namespace, body: { metadata: { name: 'leader' }, spec: this.spec(0) } });
                return true;
            }
            const mine = lease.spec.holderIdentity === this.name;
            if (!mine && !this.expired(lease)) return false;
            // The resource version that was read goes with it: of two that try at once, one is refused.
            const body = { ...lease, spec: this.spec(lease.spec.leaseTransitions + (mine ? 0 : 1)) };
            await Candidate.api.replaceNamespacedLease({ namespace, name: 'leader', body });
            return true;
        } catch (error) {
            if (error.code === 409) return false;
            throw error;
        }
    }

    read() {
        return Candidate.api.readNamespacedLease({ namespace, name: 'leader' }).catch((error) => {
            if (error.code !== 404) throw error;
        });
    }

    /** By its own clock: the holder's may differ. */
    expired(lease) {
        const renewTime = JSON.stringify(lease.spec.renewTime);
        if (renewTime !== this.seen.renewTime) this.seen = { renewTime, at: Date.now() };
        return Date.now() - this.seen.at > Candidate.durationMs;
    }

    spec(leaseTransitions) {
        const now = new k8s.V1MicroTime();
        return { holderIdentity: this.name, leaseDurationSeconds: 1, acquireTime: now, renewTime: now, leaseTransitions };
    }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** One of two leads while it renews its lease; when it stops, the other one takes over. */
async function election() {
    const candidates = [new Candidate('one'), new Candidate('two')];
    const first = await Promise.all(candidates.map((candidate) => candidate.lead()));
    assert.deepEqual([...first].sort(), [false, true], 'one of two leads');
    const [leader, other] = first[0] ? candidates : [candidates[1], candidates[0]];
    for (const begin = Date.now(); Date.now() - begin < 2 * Candidate.durationMs; await pause(100)) {
        assert.ok(await leader.lead(), 'the leader renews');
        assert.ok(!(await other.lead()), 'nobody else leads meanwhile');
    }
    const stopped = Date.now();
    while (!(await other.lead())) {
        assert.ok(Date.now() - stopped < 5 * Candidate.durationMs, 'the other one takes over');
        await pause(100);
    }
    assert.ok(Date.now() - stopped > Candidate.durationMs / 2, 'not before the lease is over');
    const { spec } = await leader.read();
    assert.deepEqual([spec.holderIdentity, spec.leaseTransitions], [other.name, 1]);
    assert.ok(!(await leader.lead()), 'who stopped does not lead any more');
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

const steps = { 'objects and refusals': objects, patches, watch: watches, informer, 'leader election': election };
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
