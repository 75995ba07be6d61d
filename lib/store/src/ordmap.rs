//! A persistent ordered map: a B-tree whose nodes are shared. Cloning is one reference count; a change copies the nodes
//! on one path, and none of them while nobody else holds the map, so that a batch of changes costs what it touches.
//!
//! Positions are found by monotone predicates (`|key| key < start`), which serves plain, prefix and composite keys alike.

use std::sync::Arc;

/// Most items of a leaf and most children of an inner node.
const WIDTH: usize = 32;

#[derive(Debug)]
pub struct OrdMap<K, V> {
    root: Arc<Node<K, V>>,
}

#[derive(Clone, Debug)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    Inner(Vec<Child<K, V>>),
}

#[derive(Debug)]
struct Child<K, V> {
    /// The smallest key under `node`.
    first: K,
    /// Number of items under `node`.
    len: usize,
    node: Arc<Node<K, V>>,
}

impl<K: Clone, V> Clone for Child<K, V> {
    fn clone(&self) -> Self {
        Self { first: self.first.clone(), len: self.len, node: Arc::clone(&self.node) }
    }
}

impl<K, V> Clone for OrdMap<K, V> {
    fn clone(&self) -> Self {
        Self { root: Arc::clone(&self.root) }
    }
}

impl<K, V> Default for OrdMap<K, V> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())) }
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for OrdMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        let mut map = Self::default();
        for (key, value) in items {
            map.insert(key, value);
        }
        map
    }
}

impl<K, V> OrdMap<K, V> {
    pub fn len(&self) -> usize {
        self.root.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many leading keys satisfy `before`, which must hold for a prefix of the keys and for no other.
    pub fn rank(&self, before: impl Fn(&K) -> bool) -> usize {
        let mut node = &*self.root;
        let mut rank = 0;
        loop {
            match node {
                Node::Leaf(items) => return rank + items.partition_point(|(key, _)| before(key)),
                Node::Inner(children) => {
                    let at = children.partition_point(|child| before(&child.first)).saturating_sub(1);
                    rank += children[..at].iter().map(|child| child.len).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }

    /// Iterates in order over the items whose key does not satisfy `before`.
    pub fn seek(&self, before: impl Fn(&K) -> bool) -> Iter<'_, K, V> {
        let mut inner = Vec::new();
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(items) => {
                    let at = items.partition_point(|(key, _)| before(key));
                    return Iter { inner, leaf: items[at..].iter() };
                }
                Node::Inner(children) => {
                    let at = children.partition_point(|child| before(&child.first)).saturating_sub(1);
                    inner.push(children[at + 1..].iter());
                    node = &children[at].node;
                }
            }
        }
    }

    pub fn iter(&self) -> Iter<'_, K, V> {
        self.seek(|_| false)
    }

    pub fn first(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }
}

impl<K: Ord + Clone, V: Clone> OrdMap<K, V> {
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(items) => {
                    return items.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok().map(|at| &items[at].1);
                }
                Node::Inner(children) => {
                    let at = children.partition_point(|child| child.first.borrow() <= key);
                    node = &children[at.checked_sub(1)?].node;
                }
            }
        }
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (old, split) = insert(Arc::make_mut(&mut self.root), key, value);
        if let Some(right) = split {
            let left = std::mem::replace(&mut self.root, Arc::new(Node::Inner(Vec::new())));
            self.root = Arc::new(Node::Inner(vec![Child::of(left), right]));
        }
        old
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.get(key)?; // an absent key must not copy a path
        let old = remove(Arc::make_mut(&mut self.root), key);
        loop {
            let next = match &*self.root {
                Node::Inner(children) if children.is_empty() => Arc::new(Node::Leaf(Vec::new())),
                Node::Inner(children) if children.len() == 1 => Arc::clone(&children[0].node),
                _ => return old,
            };
            self.root = next;
        }
    }
}

impl<K, V> Node<K, V> {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner(children) => children.iter().map(|child| child.len).sum(),
        }
    }

    /// Items of a leaf, children of an inner node.
    fn width(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner(children) => children.len(),
        }
    }
}

impl<K: Clone, V> Child<K, V> {
    /// Assumes a node that is not empty.
    fn of(node: Arc<Node<K, V>>) -> Self {
        let first = match &*node {
            Node::Leaf(items) => items[0].0.clone(),
            Node::Inner(children) => children[0].first.clone(),
        };
        Self { first, len: node.len(), node }
    }
}

type Inserted<K, V> = (Option<V>, Option<Child<K, V>>);

fn insert<K: Ord + Clone, V: Clone>(node: &mut Node<K, V>, key: K, value: V) -> Inserted<K, V> {
    match node {
        Node::Leaf(items) => match items.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(at) => (Some(std::mem::replace(&mut items[at].1, value)), None),
            Err(at) => {
                items.insert(at, (key, value));
                let split = overflow(items, at);
                (None, split.map(|right| Child::of(Arc::new(Node::Leaf(right)))))
            }
        },
        Node::Inner(children) => {
            let at = children.partition_point(|child| child.first <= key).saturating_sub(1);
            let child = &mut children[at];
            if key < child.first {
                child.first = key.clone();
            }
            let (old, split) = insert(Arc::make_mut(&mut child.node), key, value);
            child.len = child.node.len();
            let right = split.and_then(|right| {
                children.insert(at + 1, right);
                overflow(children, at + 1)
            });
            (old, right.map(|right| Child::of(Arc::new(Node::Inner(right)))))
        }
    }
}

/// Splits a node that became too wide by an insertion at `at`. One that grows at its end stays full, so that keys which
/// arrive in order (revisions, a first load) make full nodes.
fn overflow<T>(items: &mut Vec<T>, at: usize) -> Option<Vec<T>> {
    if items.len() <= WIDTH {
        return None;
    }
    let cut = if at + 1 == items.len() { WIDTH } else { WIDTH / 2 };
    Some(items.split_off(cut))
}

fn remove<K, V, Q>(node: &mut Node<K, V>, key: &Q) -> Option<V>
where
    K: Ord + Clone + std::borrow::Borrow<Q>,
    V: Clone,
    Q: Ord + ?Sized,
{
    match node {
        Node::Leaf(items) => {
            let at = items.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
            Some(items.remove(at).1)
        }
        Node::Inner(children) => {
            let at = children.partition_point(|child| child.first.borrow() <= key).checked_sub(1)?;
            let old = remove(Arc::make_mut(&mut children[at].node), key);
            if children[at].node.width() == 0 {
                children.remove(at);
                return old;
            }
            children[at] = Child::of(Arc::clone(&children[at].node));
            if children[at].node.width() < WIDTH / 4 {
                merge(children, at);
            }
            old
        }
    }
}

/// Joins the narrow child `at` with a neighbour when both fit in one node with room to grow.
fn merge<K: Clone, V: Clone>(children: &mut Vec<Child<K, V>>, at: usize) {
    let left = if at + 1 < children.len() { at } else { at.saturating_sub(1) };
    let Some(right) = children.get(left + 1) else { return };
    if children[left].node.width() + right.node.width() > WIDTH * 3 / 4 {
        return;
    }
    let right = children.remove(left + 1);
    let target = &mut children[left];
    match (Arc::make_mut(&mut target.node), &*right.node) {
        (Node::Leaf(items), Node::Leaf(more)) => items.extend(more.iter().cloned()),
        (Node::Inner(items), Node::Inner(more)) => items.extend(more.iter().cloned()),
        _ => unreachable!("siblings of a B-tree have the same height"),
    }
    target.len += right.len;
}

#[derive(Debug)]
pub struct Iter<'a, K, V> {
    inner: Vec<std::slice::Iter<'a, Child<K, V>>>,
    leaf: std::slice::Iter<'a, (K, V)>,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.leaf.next() {
                return Some((key, value));
            }
            let Some(child) = self.inner.last_mut()?.next() else {
                self.inner.pop();
                continue;
            };
            match &*child.node {
                Node::Leaf(items) => self.leaf = items.iter(),
                Node::Inner(children) => self.inner.push(children.iter()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::Random;

    fn check(map: &OrdMap<u32, u32>, model: &BTreeMap<u32, u32>) {
        assert_eq!(map.len(), model.len());
        assert!(map.iter().eq(model.iter()));
    }

    #[test]
    fn behaves_as_a_btreemap_and_snapshots_do_not_change() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let (mut map, mut model) = (OrdMap::default(), BTreeMap::new());
            let mut snapshots = Vec::new();
            for step in 0..3000 {
                let key = random.below(400) as u32;
                if random.below(if step < 1500 { 3 } else { 2 }) == 0 {
                    assert_eq!(map.remove(&key), model.remove(&key), "seed {seed}");
                } else {
                    assert_eq!(map.insert(key, step), model.insert(key, step), "seed {seed}");
                }
                assert_eq!(map.get(&key), model.get(&key));
                if step % 500 == 0 {
                    snapshots.push((map.clone(), model.clone()));
                }
                let at = random.below(400) as u32;
                assert_eq!(map.rank(|k| *k < at), model.range(..at).count());
                assert_eq!(map.seek(|k| *k < at).next(), model.range(at..).next());
            }
            for (map, model) in &snapshots {
                check(map, model);
            }
            for key in model.keys().copied().collect::<Vec<_>>() {
                assert!(map.remove(&key).is_some());
            }
            assert!(map.is_empty() && map.first().is_none());
        }
    }

    #[test]
    fn a_queue_stays_compact() {
        let mut map = OrdMap::default();
        for n in 0..100_000u32 {
            map.insert(n, n);
            if n >= 1000 {
                map.remove(&(n - 1000));
            }
        }
        assert!(map.iter().map(|(k, _)| *k).eq(99_000..100_000));
    }
}
