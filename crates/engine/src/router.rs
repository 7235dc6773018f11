//! Route patterns and the trie that finds the route of a path.
//!
//! Matching runs on the canonical path ([`crate::path::canonical`]) segment by segment; parameters
//! are decoded afterwards, so that an escaped slash never splits a segment.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

mod pattern;

pub use pattern::{MAX_PATTERN_BYTES, MAX_PATTERN_SEGMENTS, Pattern, PatternError};

use crate::path::{self, PathError};
use pattern::Segment;

/// The largest integer that a JavaScript number holds exactly, 2^53 − 1.
const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// What a route is known by outside the router.
pub type RouteId = u32;

/// The decoded parameters of a match, in the order of the pattern.
pub type Params = Vec<(Arc<str>, ParamValue)>;

/// The value of one path parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamValue {
    /// Of `{name}` and `{name:path}`: the decoded text.
    Text(String),
    /// Of `{name:int}` and `{name:float}`: finite, an integer at most 2^53 − 1 from zero for `int`.
    Number(f64),
}

/// The route of a WebSocket path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebSocketRoute {
    /// What the route is known by.
    pub id: RouteId,
    /// Whether binary messages reach the handler as they are; else they must be UTF-8 text.
    pub binary: bool,
    /// Whether messages are compressed for peers that can inflate them; `TINA4_WS_COMPRESSION`
    /// decides if it is not said.
    pub compress: Option<bool>,
    /// The subprotocols it speaks. A clone shares them.
    pub protocols: Arc<[Box<str>]>,
}

/// The requests that an HTTP route answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// Every method.
    Any,
    /// One method. `GET` also answers `HEAD` where nothing else does.
    Only(http::Method),
}

impl FromStr for Method {
    type Err = http::method::InvalidMethod;

    /// Reads `ANY` or the name of a method, in upper case as on the wire.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ANY" => Ok(Method::Any),
            name => name.parse().map(Method::Only),
        }
    }
}

/// What an HTTP request finds.
#[derive(Debug, Clone, PartialEq)]
pub enum HttpMatch {
    /// The route that answers.
    Found {
        /// What the route is known by.
        id: RouteId,
        /// The decoded path parameters.
        params: Params,
    },
    /// The path is known, but not with this method. So is `OPTIONS` without a handler of its own.
    MethodNotAllowed {
        /// The value of the `Allow` header: sorted, always with `OPTIONS`, with `HEAD` if `GET`.
        allow: String,
    },
    /// No HTTP route has this path.
    NotFound,
}

/// The routes of a server and the way from a path to one of them.
///
/// At every level of a path a literal segment goes before `int`, `int` before `float`, `float`
/// before text and text before `path`; where that choice leads nowhere further down, the next one
/// is tried. A route without the wanted protocol or method counts as leading nowhere.
///
/// A match visits each node of the trie at most once: a node has one way to it, and its depth says
/// which segment of the path it is compared with. So the time is bounded by the number of distinct
/// pattern segments that were registered, whatever the path, and needs no memory of failed tries.
///
/// A clone copies the whole table.
#[derive(Debug, Clone)]
pub struct Router {
    /// The first one is the root.
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    literals: HashMap<Box<str>, usize>,
    int: Option<usize>,
    float: Option<usize>,
    text: Option<usize>,
    /// Takes all that is left of the path; has no nodes below it.
    rest: Option<usize>,
    /// What a path that ends at this node leads to.
    routes: Routes,
}

/// The routes of one shape of path.
#[derive(Debug, Clone, Default)]
struct Routes {
    websocket: Option<(WebSocketRoute, Box<[Arc<str>]>)>,
    http: Vec<HttpRoute>,
}

#[derive(Debug, Clone)]
struct HttpRoute {
    method: Method,
    id: RouteId,
    names: Box<[Arc<str>]>,
}

impl Default for Router {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Router {
    /// Adds a WebSocket route. One of the same shape is replaced, with the names of its parameters,
    /// and its id is returned.
    pub fn insert_websocket(&mut self, pattern: Pattern, route: WebSocketRoute) -> Option<RouteId> {
        let routes = self.routes_at(&pattern.segments);
        let replaced = routes.websocket.replace((route, pattern.names));
        replaced.map(|(route, _)| route.id)
    }

    /// Adds an HTTP route. One of the same method and shape is replaced, with the names of its
    /// parameters, and its id is returned.
    pub fn insert_http(
        &mut self,
        method: Method,
        pattern: Pattern,
        id: RouteId,
    ) -> Option<RouteId> {
        let routes = self.routes_at(&pattern.segments);
        let route = HttpRoute { method, id, names: pattern.names };
        match routes.http.iter_mut().find(|known| known.method == route.method) {
            Some(known) => Some(std::mem::replace(known, route).id),
            None => {
                routes.http.push(route);
                None
            }
        }
    }

    /// Finds the WebSocket route of a canonical path.
    ///
    /// # Errors
    /// A parameter of the route that was found is not text once decoded: the request is a bad one.
    pub fn match_websocket(
        &self,
        canonical_path: &str,
    ) -> Result<Option<(WebSocketRoute, Params)>, PathError> {
        let found = self.walk(canonical_path, |routes, captures| match &routes.websocket {
            Some((route, names)) => ControlFlow::Break((route.clone(), params(names, captures))),
            None => ControlFlow::Continue(()),
        });
        found.map(|(route, params)| Ok((route, params?))).transpose()
    }

    /// Finds the HTTP route of a canonical path.
    ///
    /// `HEAD` falls back to `GET`. A path of which a more specific shape lacks the method goes to a
    /// less specific one that has it.
    ///
    /// # Errors
    /// A parameter of the route that was found is not text once decoded: the request is a bad one.
    pub fn match_http(
        &self,
        method: &http::Method,
        canonical_path: &str,
    ) -> Result<HttpMatch, PathError> {
        let mut allow = BTreeSet::new();
        let found = self.walk(canonical_path, |routes, captures| match routes.answer(method) {
            Some(route) => ControlFlow::Break((route.id, params(&route.names, captures))),
            None => {
                routes.collect_methods(&mut allow);
                ControlFlow::Continue(())
            }
        });
        if let Some((id, params)) = found {
            return Ok(HttpMatch::Found { id, params: params? });
        }
        if allow.is_empty() {
            return Ok(HttpMatch::NotFound);
        }
        allow.insert("OPTIONS");
        let allow = allow.into_iter().collect::<Vec<_>>().join(", ");
        Ok(HttpMatch::MethodNotAllowed { allow })
    }

    /// The routes of a shape, new ones where it is a new shape.
    fn routes_at(&mut self, segments: &[Segment]) -> &mut Routes {
        let mut at = 0;
        for segment in segments {
            let next = self.nodes.len();
            let node = &mut self.nodes[at];
            at = match segment {
                Segment::Literal(text) => *node.literals.entry(text.clone()).or_insert(next),
                Segment::Int => *node.int.get_or_insert(next),
                Segment::Float => *node.float.get_or_insert(next),
                Segment::Text => *node.text.get_or_insert(next),
                Segment::Rest => *node.rest.get_or_insert(next),
            };
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        &mut self.nodes[at].routes
    }

    /// Offers the routes of every shape that the path has to `visit`, the most specific one first,
    /// until it breaks.
    fn walk<'r, 'p, T>(
        &'r self,
        canonical_path: &'p str,
        mut visit: impl FnMut(&'r Routes, &[Capture<'p>]) -> ControlFlow<T>,
    ) -> Option<T> {
        let tail = canonical_path.strip_prefix('/')?;
        let mut captures = Captures { all: [Capture::Number(0.0); MAX_PATTERN_SEGMENTS], len: 0 };
        self.descend(0, Some(tail), &mut captures, &mut visit).break_value()
    }

    /// Goes on from `node` with what is left of the path, `None` at its end. As deep as the longest
    /// pattern.
    fn descend<'r, 'p, T>(
        &'r self,
        node: usize,
        left: Option<&'p str>,
        captures: &mut Captures<'p>,
        visit: &mut impl FnMut(&'r Routes, &[Capture<'p>]) -> ControlFlow<T>,
    ) -> ControlFlow<T> {
        let node = &self.nodes[node];
        let Some(left) = left else {
            return visit(&node.routes, captures.as_slice());
        };
        let (segment, tail) = match left.split_once('/') {
            Some((segment, tail)) => (segment, Some(tail)),
            None => (left, None),
        };
        if let Some(next) = node.literals.get(segment) {
            self.descend(*next, tail, captures, visit)?;
        }
        if let Some((next, value)) = node.int.zip(integer(segment)) {
            captures.push(Capture::Number(value));
            self.descend(next, tail, captures, visit)?;
            captures.pop();
        }
        if let Some((next, value)) = node.float.zip(float(segment)) {
            captures.push(Capture::Number(value));
            self.descend(next, tail, captures, visit)?;
            captures.pop();
        }
        if let Some(next) = node.text.filter(|_| !segment.is_empty()) {
            captures.push(Capture::Text(segment));
            self.descend(next, tail, captures, visit)?;
            captures.pop();
        }
        if let Some(next) = node.rest.filter(|_| !left.is_empty()) {
            captures.push(Capture::Text(left));
            self.descend(next, None, captures, visit)?;
            captures.pop();
        }
        ControlFlow::Continue(())
    }
}

impl Routes {
    /// The route for a request with `method`: its own, for `HEAD` that of `GET`, that of any.
    fn answer(&self, method: &http::Method) -> Option<&HttpRoute> {
        let only = |wanted: &http::Method| {
            self.http
                .iter()
                .find(|route| matches!(&route.method, Method::Only(one) if one == wanted))
        };
        only(method)
            .or_else(|| only(&http::Method::GET).filter(|_| *method == http::Method::HEAD))
            .or_else(|| self.http.iter().find(|route| route.method == Method::Any))
    }

    fn collect_methods<'r>(&'r self, allow: &mut BTreeSet<&'r str>) {
        for route in &self.http {
            if let Method::Only(method) = &route.method {
                allow.insert(method.as_str());
                if *method == http::Method::GET {
                    allow.insert("HEAD");
                }
            }
        }
    }
}

/// A parameter on the way down, not decoded yet.
#[derive(Clone, Copy)]
enum Capture<'p> {
    Number(f64),
    Text(&'p str),
}

/// The parameters from the root to the node in hand. One a segment at most, so that no pattern has
/// more than fit.
struct Captures<'p> {
    all: [Capture<'p>; MAX_PATTERN_SEGMENTS],
    len: usize,
}

impl<'p> Captures<'p> {
    fn push(&mut self, capture: Capture<'p>) {
        self.all[self.len] = capture;
        self.len += 1;
    }

    fn pop(&mut self) {
        self.len -= 1;
    }

    fn as_slice(&self) -> &[Capture<'p>] {
        &self.all[..self.len]
    }
}

/// Names and decodes what was captured.
fn params(names: &[Arc<str>], captures: &[Capture<'_>]) -> Result<Params, PathError> {
    let value = |capture: &Capture<'_>| match capture {
        Capture::Number(value) => Ok(ParamValue::Number(*value)),
        // Of several segments too: a slash is never part of an escape.
        Capture::Text(text) => path::decode_segment(text).map(ParamValue::Text),
    };
    names
        .iter()
        .zip(captures)
        .map(|(name, capture)| Ok((Arc::clone(name), value(capture)?)))
        .collect()
}

/// The number of an `int` segment.
fn integer(segment: &str) -> Option<f64> {
    // The parser of the standard library also takes a plus sign.
    if segment.starts_with('+') {
        return None;
    }
    let value: i64 = segment.parse().ok()?;
    // Exact within these bounds.
    (-MAX_SAFE_INTEGER..=MAX_SAFE_INTEGER).contains(&value).then_some(value as f64)
}

/// The number of a `float` segment.
fn float(segment: &str) -> Option<f64> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = segment.strip_prefix('-').unwrap_or(segment);
    let is_number = match unsigned.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(unsigned),
    };
    let value: f64 = is_number.then(|| segment.parse().ok()).flatten()?;
    // Adding zero turns −0 into 0.
    value.is_finite().then_some(value + 0.0)
}

#[cfg(test)]
mod tests;
