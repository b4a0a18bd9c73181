//! Finds what styles the norms: vectors that the same layers make of one input after the other (the z of each step), and
//! the linear layers that make a style of each. No image has a part in them, so all of them can be computed before
//! anything else, with one dispatch for each layer and one for all styles.

use std::collections::HashMap;

use candle_core::{Tensor, TensorId};

use super::{Graph, NodeId, Op};
use crate::backend::Activation;
use crate::layers::Linear;

/// The styles of a graph.
#[derive(Debug)]
pub struct Styles<'a> {
    /// The inputs, of one shape. Their rows are computed together, those of one input after those of the other.
    pub inputs: Vec<NodeId>,
    /// The layers from an input on; of each layer, its nodes for all inputs.
    pub layers: Vec<Vec<NodeId>>,
    /// The layers whose results are the styles, and their nodes. Their features lie side by side.
    pub heads: Vec<(&'a Linear, Vec<NodeId>)>,
    /// For the node of each style, the numbers of its input and of its head.
    pub places: HashMap<NodeId, (usize, usize)>,
}

/// What tells a layer from others.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Layer {
    PixelNorm,
    Linear(TensorId, TensorId, Activation),
}

/// A style's way from its input: the nodes, the input first, and the layers between it and the style.
struct Way {
    nodes: Vec<NodeId>,
    layers: Vec<Layer>,
}

impl<'a> Styles<'a> {
    /// The styles that come about in the same way as the graph's first; none if there are none, or if others need what
    /// lies on the way. `can_share` says for the shape of an input whether others can read one where it lies, behind the
    /// inputs before it.
    pub fn find(graph: &'a Graph, constants: &[Option<Tensor>], can_share: impl Fn(&[usize]) -> bool) -> Option<Self> {
        let mut styles = Self { inputs: Vec::new(), layers: Vec::new(), heads: Vec::new(), places: HashMap::new() };
        let mut first: Option<Way> = None;
        for node in &graph.nodes {
            let (Op::AdaptiveGroupNorm { .. }, &[_, style]) = (&node.op, node.inputs.as_slice()) else { continue };
            let Op::Linear(head, Activation::Identity) = &graph.nodes[style].op else { continue };
            if constants[style].is_some() || styles.places.contains_key(&style) {
                continue;
            }
            let Some(way) = way(graph, graph.nodes[style].inputs[0]) else { continue };
            let expected = first.get_or_insert_with(|| Way { nodes: way.nodes.clone(), layers: way.layers.clone() });
            let shape = |way: &Way| &graph.nodes[way.nodes[0]].shape;
            if way.layers == expected.layers && shape(&way) == shape(expected) {
                styles.add(style, head, &way);
            }
        }
        let inputs_are_open =
            styles.inputs.len() == 1 || first.is_some_and(|way| can_share(&graph.nodes[way.nodes[0]].shape));
        (!styles.places.is_empty() && styles.are_alone(graph, inputs_are_open)).then_some(styles)
    }

    fn add(&mut self, style: NodeId, head: &'a Linear, way: &Way) {
        let input = self.inputs.iter().position(|&input| input == way.nodes[0]).unwrap_or_else(|| {
            self.inputs.push(way.nodes[0]);
            self.layers.resize(way.layers.len(), Vec::new());
            self.layers.iter_mut().zip(&way.nodes[1..]).for_each(|(layer, &node)| layer.push(node));
            self.inputs.len() - 1
        });
        let same = |other: &Linear| (other.weight.id(), other.bias.id()) == (head.weight.id(), head.bias.id());
        let number = self.heads.iter().position(|(other, _)| same(other)).unwrap_or_else(|| {
            self.heads.push((head, Vec::new()));
            self.heads.len() - 1
        });
        self.heads[number].1.push(style);
        self.places.insert(style, (input, number));
    }

    /// All nodes that need no dispatch of their own, the inputs included.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let layers = self.layers.iter().flatten();
        self.inputs.iter().chain(layers).chain(self.places.keys()).copied()
    }

    /// Whether nothing else needs these nodes, but for inputs if others can read them.
    fn are_alone(&self, graph: &Graph, inputs_are_open: bool) -> bool {
        let mut own = vec![false; graph.nodes.len()];
        self.nodes().for_each(|node| own[node] = true);
        let mut reserved = own.clone();
        if inputs_are_open {
            self.inputs.iter().for_each(|&input| reserved[input] = false);
        }
        let read_by_others = graph.nodes.iter().enumerate().any(|(id, node)| {
            let styled = |i: usize| i == 1 && matches!(node.op, Op::AdaptiveGroupNorm { .. });
            let taken = |(i, &input): (usize, &NodeId)| {
                let style = self.places.contains_key(&input);
                reserved[input] && if style { !styled(i) } else { !own[id] }
            };
            node.inputs.iter().enumerate().any(taken)
        });
        !read_by_others && !graph.outputs.iter().any(|(_, node)| own[*node])
    }
}

/// The way from an input to the node `end`, over layers that take vectors.
fn way(graph: &Graph, end: NodeId) -> Option<Way> {
    let mut way = Way { nodes: vec![end], layers: Vec::new() };
    let mut id = end;
    loop {
        let node = &graph.nodes[id];
        way.layers.push(match (&node.op, node.shape.len()) {
            (Op::Input(_), 2) => break,
            (Op::PixelNorm, 2) => Layer::PixelNorm,
            (Op::Linear(linear, activation), 2) => Layer::Linear(linear.weight.id(), linear.bias.id(), *activation),
            _ => return None,
        });
        id = node.inputs[0];
        way.nodes.push(id);
    }
    way.nodes.reverse();
    way.layers.reverse();
    Some(way)
}
