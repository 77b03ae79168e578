//! Looks for the cheapest order.

use super::cluster::{Mask, Tree};
use super::graph::{Graph, bits, is_subset};

/// Relations and semi joins for which all orders are looked at: 10 that are all joined with each other have 28 501 pairs of sets to weigh,
/// a few milliseconds.
const EXHAUSTIVE_MAX: u32 = 10;

/// The best order: of each connected part by itself, then the parts' products, smallest first.
pub(super) fn best(graph: &Graph) -> Tree {
    let mut parts: Vec<(Mask, Tree)> = components(graph).into_iter().map(|part| connected(graph, part)).collect();
    parts.sort_by(|(a, _), (b, _)| graph.rows(*a, true).total_cmp(&graph.rows(*b, true)).then(a.cmp(b)));
    let mut parts = parts.into_iter();
    let Some((mut set, mut tree)) = parts.next() else { return graph.cluster.original.clone() };
    for (other, part) in parts {
        set |= other;
        tree = Tree::Join(Box::new(tree), Box::new(part));
        for (semi, of) in graph.cluster.semis.iter().enumerate() {
            if !is_subset(graph.semi_bit(semi), set) && is_subset(of.needs, set) {
                set |= graph.semi_bit(semi);
                tree = Tree::Semi(Box::new(tree), semi);
            }
        }
    }
    tree
}

/// Leaves that keys connect, each set with the semi joins that read nothing else.
fn components(graph: &Graph) -> Vec<Mask> {
    let leaves: Mask = (1 << graph.cluster.leaves.len()) - 1;
    let mut left = leaves;
    let mut components = vec![];
    while left != 0 {
        let mut component = left & left.wrapping_neg();
        loop {
            let grown = bits(component).fold(component, |all, leaf| all | (graph.neighbors[leaf] & leaves));
            if grown == component {
                break;
            }
            component = grown;
        }
        left &= !component;
        for (semi, of) in graph.cluster.semis.iter().enumerate() {
            if is_subset(of.needs, component & leaves) {
                component |= graph.semi_bit(semi);
            }
        }
        components.push(component);
    }
    components
}

fn connected(graph: &Graph, part: Mask) -> (Mask, Tree) {
    let tree = match part.count_ones() <= EXHAUSTIVE_MAX {
        true => Exhaustive::new(graph, part).best(),
        false => None,
    };
    (part, tree.unwrap_or_else(|| greedy(graph, part)))
}

/// One of the trees that [`greedy`] still has to join.
struct Part {
    set: Mask,
    rows: f64,
    tree: Tree,
}

impl Part {
    fn new(graph: &Graph, set: Mask, tree: Tree) -> Part {
        Part { set, rows: graph.rows(set, true), tree }
    }
}

/// What [`greedy`] may do next, by positions.
enum Next {
    Join(usize, usize),
    Semi(usize, usize),
}

/// Greedy operator ordering (Fegaras 1998): always the cheapest join next.
fn greedy(graph: &Graph, whole: Mask) -> Tree {
    let count = graph.cluster.leaves.len();
    let leaves = bits(whole).filter(|bit| *bit < count);
    let mut parts: Vec<Part> = leaves.map(|leaf| Part::new(graph, 1 << leaf, Tree::Leaf(leaf))).collect();
    let mut semis: Vec<usize> = bits(whole).filter(|bit| *bit >= count).map(|bit| bit - count).collect();
    while let Some(next) = cheapest(graph, &parts, &semis) {
        match next {
            Next::Join(left, right) => {
                // The later one first: removing it moves none before it.
                let right = parts.remove(right);
                let left = parts.remove(left);
                let tree = Tree::Join(Box::new(left.tree), Box::new(right.tree));
                parts.push(Part::new(graph, left.set | right.set, tree));
            }
            Next::Semi(input, semi) => {
                let semi = semis.remove(semi);
                let input = parts.remove(input);
                parts.push(Part::new(graph, input.set | graph.semi_bit(semi), Tree::Semi(Box::new(input.tree), semi)));
            }
        }
    }
    // What keys connect is one tree now.
    let trees = parts.into_iter().map(|part| part.tree);
    trees.reduce(|all, tree| Tree::Join(Box::new(all), Box::new(tree))).expect("there is at least one leaf")
}

fn cheapest(graph: &Graph, parts: &[Part], semis: &[usize]) -> Option<Next> {
    let mut cheapest: Option<(f64, Next)> = None;
    let mut offer = |cost: f64, next: Next| {
        if cheapest.as_ref().is_none_or(|(least, _)| cost < *least) {
            cheapest = Some((cost, next));
        }
    };
    for (left, l) in parts.iter().enumerate() {
        for (right, r) in parts.iter().enumerate().skip(left + 1) {
            if graph.is_keyed(l.set, r.set) {
                offer(Graph::join_cost(l.rows, r.rows, graph.rows(l.set | r.set, true)), Next::Join(left, right));
            }
        }
        for (index, semi) in semis.iter().enumerate() {
            if is_subset(graph.cluster.semis[*semi].needs, l.set) {
                let rows = graph.rows(l.set | graph.semi_bit(*semi), true);
                offer(Graph::join_cost(l.rows, graph.semi_rows(*semi), rows), Next::Semi(left, index));
            }
        }
    }
    cheapest.map(|(_, next)| next)
}

/// All bushy orders without products, by dynamic programming over connected sets and their connected complements (DPccp, Moerkotte and
/// Neumann, "Analysis of Two Existing and One New Dynamic Programming Algorithm", VLDB 2006).
///
/// A semi join is a node as well, connected with the leaves that it reads: joining a set with it is applying it. So that where it is
/// applied, first or last, is decided by cost as all else.
struct Exhaustive<'a> {
    graph: &'a Graph,
    /// The graph's bits of this part's nodes, in order; masks below are over positions here.
    nodes: Vec<usize>,
    neighbors: Vec<u32>,
    /// For each node that is a semi join, its number and what it needs.
    semis: Vec<Option<(usize, u32)>>,
    /// The best plan of each set that has one.
    plans: Vec<Option<Plan>>,
}

#[derive(Clone, Copy)]
struct Plan {
    rows: f64,
    cost: f64,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Leaf,
    Join(u32, u32),
    /// The node of the semi join that is applied last.
    Semi(u32, usize),
}

impl<'a> Exhaustive<'a> {
    fn new(graph: &'a Graph, part: Mask) -> Exhaustive<'a> {
        let nodes: Vec<usize> = bits(part).collect();
        let count = graph.cluster.leaves.len();
        let local = |mask: Mask| -> u32 {
            nodes.iter().enumerate().filter(|(_, bit)| mask & (1 << **bit) != 0).fold(0, |all, (position, _)| all | (1 << position))
        };
        let neighbors = nodes.iter().map(|bit| local(graph.neighbors[*bit])).collect();
        let semi = |bit: &usize| bit.checked_sub(count).map(|semi| (semi, local(graph.cluster.semis[semi].needs)));
        let semis = nodes.iter().map(semi).collect();
        let plans = vec![None; 1 << nodes.len()];
        Exhaustive { graph, neighbors, semis, plans, nodes }
    }

    fn best(mut self) -> Option<Tree> {
        for node in 0..self.nodes.len() {
            if self.semis[node].is_none() {
                let rows = self.rows(1 << node);
                self.plans[1 << node] = Some(Plan { rows, cost: 0.0, step: Step::Leaf });
            }
        }
        let mut pairs = self.connected_pairs();
        // Smaller sets first: what a pair is made of is then planned before it.
        pairs.sort_by_key(|(left, right)| (left | right).count_ones());
        for (left, right) in pairs {
            self.offer(left, right);
        }
        self.tree((1 << self.nodes.len()) - 1)
    }

    /// Weighs one way to make a set.
    fn offer(&mut self, left: u32, right: u32) {
        let (input, with, step) = match (self.semi_node(left), self.semi_node(right)) {
            (None, None) => {
                let (Some(l), Some(r)) = (self.plans[left as usize], self.plans[right as usize]) else { return };
                (l, r, Step::Join(left, right))
            }
            (Some(node), None) => match self.semi_step(right, node) {
                Some(step) => step,
                None => return,
            },
            (None, Some(node)) => match self.semi_step(left, node) {
                Some(step) => step,
                None => return,
            },
            (Some(_), Some(_)) => return,
        };
        let set = left | right;
        let known = self.plans[set as usize];
        let rows = known.map_or_else(|| self.rows(set), |plan| plan.rows);
        let cost = input.cost + with.cost + Graph::join_cost(input.rows, with.rows, rows);
        if known.is_none_or(|plan| cost < plan.cost) {
            self.plans[set as usize] = Some(Plan { rows, cost, step });
        }
    }

    /// The plan of `input`, what it is filtered by, and the step of filtering it.
    fn semi_step(&self, input: u32, node: usize) -> Option<(Plan, Plan, Step)> {
        let (semi, needs) = self.semis[node]?;
        if needs & !input != 0 {
            return None;
        }
        let right = Plan { rows: self.graph.semi_rows(semi), cost: 0.0, step: Step::Leaf };
        Some((self.plans[input as usize]?, right, Step::Semi(input, node)))
    }

    /// The node, if a set is one semi join and nothing else.
    fn semi_node(&self, set: u32) -> Option<usize> {
        let node = set.trailing_zeros() as usize;
        (set.count_ones() == 1 && self.semis[node].is_some()).then_some(node)
    }

    fn rows(&self, set: u32) -> f64 {
        let global = bits(Mask::from(set)).fold(0, |all: Mask, node| all | (1 << self.nodes[node]));
        self.graph.rows(global, true)
    }

    fn tree(&self, set: u32) -> Option<Tree> {
        Some(match self.plans[set as usize]?.step {
            Step::Leaf => Tree::Leaf(self.nodes[set.trailing_zeros() as usize]),
            Step::Join(left, right) => Tree::Join(Box::new(self.tree(left)?), Box::new(self.tree(right)?)),
            Step::Semi(input, node) => Tree::Semi(Box::new(self.tree(input)?), self.semis[node]?.0),
        })
    }

    /// All pairs of connected sets that are connected with each other and have no node in common, each pair once.
    fn connected_pairs(&self) -> Vec<(u32, u32)> {
        let mut sets = vec![];
        for node in (0..self.nodes.len()).rev() {
            sets.push(1 << node);
            self.grow(1 << node, up_to(node), &mut sets);
        }
        let mut pairs = vec![];
        let mut complements = vec![];
        for set in sets {
            // Complements start at nodes after the set's first, so a pair is not found from its other half as well.
            let excluded = set | up_to(set.trailing_zeros() as usize);
            let starts = self.around(set) & !excluded;
            for node in bits(Mask::from(starts)).collect::<Vec<_>>().into_iter().rev() {
                complements.clear();
                complements.push(1 << node);
                self.grow(1 << node, excluded | (up_to(node) & starts), &mut complements);
                pairs.extend(complements.iter().map(|complement| (set, *complement)));
            }
        }
        pairs
    }

    /// All connected sets that are `set` and more nodes, none of them `excluded`.
    fn grow(&self, set: u32, excluded: u32, found: &mut Vec<u32>) {
        let around = self.around(set) & !excluded & !set;
        for more in subsets(around) {
            found.push(set | more);
        }
        for more in subsets(around) {
            self.grow(set | more, excluded | around, found);
        }
    }

    fn around(&self, set: u32) -> u32 {
        bits(Mask::from(set)).fold(0, |all, node| all | self.neighbors[node])
    }
}

/// The nodes up to and with `node`.
fn up_to(node: usize) -> u32 {
    (2 << node) - 1
}

/// The subsets of a set without the empty one, smaller numbers first.
fn subsets(set: u32) -> impl Iterator<Item = u32> {
    let mut subset = 0u32;
    std::iter::from_fn(move || {
        subset = subset.wrapping_sub(set) & set;
        (subset != 0).then_some(subset)
    })
}
