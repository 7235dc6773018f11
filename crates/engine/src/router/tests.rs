use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn text(value: &str) -> ParamValue {
    ParamValue::Text(value.to_owned())
}

/// A router with WebSocket routes, their ids being their places in the list.
fn sockets(patterns: &[&str]) -> Router {
    let mut router = Router::default();
    for (id, text) in (0..).zip(patterns) {
        let route = WebSocketRoute { id, binary: false, ..Default::default() };
        assert_eq!(router.insert_websocket(pattern(text), route), None, "{text}");
    }
    router
}

/// A router with HTTP routes, their ids being their places in the list.
fn http(routes: &[(&str, &str)]) -> Router {
    let mut router = Router::default();
    for (id, (method, text)) in (0..).zip(routes) {
        let method = method.parse().unwrap();
        assert_eq!(router.insert_http(method, pattern(text), id), None, "{text}");
    }
    router
}

fn find(router: &Router, path: &str) -> Option<(RouteId, Params)> {
    let path = path::canonical(path).unwrap();
    let found = router.match_websocket(&path).unwrap();
    found.map(|(route, params)| (route.id, params))
}

fn found(router: &Router, path: &str) -> Option<RouteId> {
    find(router, path).map(|(id, _)| id)
}

/// The only parameter of the route that `path` finds.
fn value(router: &Router, path: &str) -> Option<ParamValue> {
    let (_, mut params) = find(router, path)?;
    assert_eq!(params.len(), 1);
    Some(params.remove(0).1)
}

fn request(router: &Router, method: &str, path: &str) -> HttpMatch {
    let path = path::canonical(path).unwrap();
    router.match_http(&method.parse().unwrap(), &path).unwrap()
}

fn answer(router: &Router, method: &str, path: &str) -> Option<RouteId> {
    match request(router, method, path) {
        HttpMatch::Found { id, .. } => Some(id),
        _ => None,
    }
}

fn allow(router: &Router, method: &str, path: &str) -> String {
    match request(router, method, path) {
        HttpMatch::MethodNotAllowed { allow } => allow,
        other => panic!("{method} {path}: {other:?}"),
    }
}

#[test]
fn the_most_specific_of_overlapping_shapes_is_found_in_any_order_of_registration() {
    let shapes =
        ["/x/me", "/x/{id:int}", "/x/{ratio:float}", "/x/{name}", "/x/{rest:path}", "/{rest:path}"];
    let cases = [
        ("/x/me", "/x/me"),
        ("/x/7", "/x/{id:int}"),
        ("/x/-7", "/x/{id:int}"),
        ("/x/7.5", "/x/{ratio:float}"),
        ("/x/9007199254740992", "/x/{ratio:float}"),
        ("/x/you", "/x/{name}"),
        ("/x/me/", "/x/{rest:path}"),
        ("/x/7/8", "/x/{rest:path}"),
        ("/x/", "/{rest:path}"),
        ("/x", "/{rest:path}"),
        ("/y", "/{rest:path}"),
    ];
    for turn in 0..shapes.len() {
        let mut order = shapes.to_vec();
        order.rotate_left(turn);
        let (forwards, mut backwards) = (order.clone(), order);
        backwards.reverse();
        for order in [forwards, backwards] {
            let router = sockets(&order);
            for (path, shape) in cases {
                let id = found(&router, path).unwrap();
                assert_eq!(order[id as usize], shape, "{path} with {order:?}");
            }
            assert_eq!(found(&router, "/"), None);
        }
    }
}

#[test]
fn a_choice_that_leads_nowhere_is_taken_back_at_every_level() {
    let router = sockets(&[
        "/a/b/c/d",
        "/a/b/{x}/e",
        "/a/{x}/c/f",
        "/{x}/b/c/g",
        "/{n:int}/1/x",
        "/{n:float}/{m:int}/y",
        "/{t}/1/z",
        "/{rest:path}",
    ]);
    assert_eq!(found(&router, "/a/b/c/d"), Some(0));
    assert_eq!(find(&router, "/a/b/c/e"), Some((1, vec![("x".into(), text("c"))])));
    assert_eq!(find(&router, "/a/b/c/f"), Some((2, vec![("x".into(), text("b"))])));
    assert_eq!(find(&router, "/a/b/c/g"), Some((3, vec![("x".into(), text("a"))])));
    assert_eq!(
        find(&router, "/a/b/c/h"),
        Some((7, vec![("rest".into(), text("a/b/c/h"))])),
        "nothing of the earlier tries is left over"
    );
    assert_eq!(find(&router, "/5/1/x"), Some((4, vec![("n".into(), ParamValue::Number(5.0))])));
    assert_eq!(
        find(&router, "/5/1/y"),
        Some((
            5,
            vec![("n".into(), ParamValue::Number(5.0)), ("m".into(), ParamValue::Number(1.0))]
        ))
    );
    assert_eq!(find(&router, "/5/1/z"), Some((6, vec![("t".into(), text("5"))])));
}

#[test]
fn a_table_made_for_backtracking_is_matched_with_one_visit_a_node() {
    // Two ways at each of 31 levels, none of which ends well: trying every combination would
    // never come to an end here.
    let mut router = Router::default();
    let level = |index: usize, literal: bool| match literal {
        true => "/a".to_owned(),
        false => format!("/{{p{index}}}"),
    };
    for seed in 0..400u32 {
        let mut text = String::new();
        for index in 0..MAX_PATTERN_SEGMENTS - 1 {
            // Spreads the bits of the seed over the levels.
            let bit = seed.wrapping_mul(2_654_435_761).rotate_left(index as u32) & 1;
            text.push_str(&level(index, bit == 1));
        }
        text.push_str("/end");
        router.insert_websocket(
            pattern(&text),
            WebSocketRoute { id: seed, binary: false, ..Default::default() },
        );
    }
    let mut visits = 0;
    let long = "/a".repeat(MAX_PATTERN_SEGMENTS - 1);
    let path = format!("{long}/end");
    let ends = router.walk(&path, |_, _| {
        visits += 1;
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(ends, None);
    assert!((2..=400).contains(&visits), "each of the 400 shapes at most once, not {visits}");
    for path in [format!("{long}/b"), format!("{long}/a/end"), format!("{long}/end/")] {
        assert_eq!(found(&router, &path), None);
    }
    assert!(found(&router, &path).is_some());
}

#[test]
fn a_path_longer_than_any_pattern_is_matched_by_a_path_parameter_alone() {
    let params: String = (0..MAX_PATTERN_SEGMENTS).map(|index| format!("/{{p{index}}}")).collect();
    let mut router = sockets(&[&params]);
    let full = "/a".repeat(MAX_PATTERN_SEGMENTS);
    assert_eq!(find(&router, &full).unwrap().1.len(), MAX_PATTERN_SEGMENTS);
    assert_eq!(found(&router, &format!("{full}/a")), None);
    assert_eq!(found(&router, &"/".repeat(100_000)), None);

    let rest = format!("{}/{{rest:path}}", &params[..params.rfind('/').unwrap()]);
    router.insert_websocket(
        pattern(&rest),
        WebSocketRoute { id: 1, binary: true, ..Default::default() },
    );
    assert_eq!(found(&router, &full), Some(0));
    let (id, params) = find(&router, &"/a".repeat(100_000)).unwrap();
    assert_eq!((id, params.len()), (1, MAX_PATTERN_SEGMENTS));
}

#[test]
fn a_trailing_slash_and_a_double_slash_are_other_paths() {
    let router = sockets(&["/", "/a", "/a/", "/a//b", "/a/b"]);
    let paths = ["/", "/a", "/a/", "/a//b", "/a/b"];
    for (id, path) in (0..).zip(paths) {
        assert_eq!(found(&router, path), Some(id), "{path}");
    }
    for path in ["//", "//a", "/a//", "/a///b", "/a/b/", "/A"] {
        assert_eq!(found(&router, path), None, "{path}");
    }
}

#[test]
fn an_empty_segment_is_no_parameter() {
    let router = sockets(&["/a/{name}", "/b/{name}/c", "/d/{rest:path}"]);
    assert_eq!(value(&router, "/a/x"), Some(text("x")));
    assert_eq!(found(&router, "/a/"), None);
    assert_eq!(found(&router, "/a"), None);
    assert_eq!(found(&router, "/b//c"), None);
    assert_eq!(found(&router, "/d/"), None);
    assert_eq!(found(&router, "/d"), None);
    assert_eq!(value(&router, "/d//"), Some(text("/")));
    assert_eq!(value(&router, "/d/x/y/"), Some(text("x/y/")));
}

#[test]
fn a_path_without_a_leading_slash_matches_nothing() {
    let router = sockets(&["/{rest:path}", "/a"]);
    assert_eq!(router.match_websocket("a"), Ok(None));
    assert_eq!(router.match_websocket(""), Ok(None));
    assert_eq!(http(&[]).match_http(&http::Method::GET, "*"), Ok(HttpMatch::NotFound));
}

#[test]
fn an_int_is_an_exact_integer_in_plain_digits() {
    let router = sockets(&["/{id:int}"]);
    for (path, number) in [
        ("/0", 0.0),
        ("/007", 7.0),
        ("/-12", -12.0),
        ("/-0", 0.0),
        ("/%31%32", 12.0),
        ("/9007199254740991", 9_007_199_254_740_991.0),
        ("/-9007199254740991", -9_007_199_254_740_991.0),
        ("/00000000000000000000000000000000000001", 1.0),
    ] {
        assert_eq!(value(&router, path), Some(ParamValue::Number(number)), "{path}");
    }
    for path in [
        "/",
        "/-",
        "/--1",
        "/+1",
        "/1.0",
        "/1e5",
        "/0x10",
        "/1_000",
        "/ 1",
        "/1-",
        "/٣",
        "/9007199254740992",
        "/-9007199254740992",
        "/99999999999999999999999999",
    ] {
        assert_eq!(found(&router, path), None, "{path}");
    }
    let zero = value(&router, "/-0");
    assert!(matches!(zero, Some(ParamValue::Number(zero)) if zero.is_sign_positive()));
}

#[test]
fn a_float_is_finite_and_in_plain_digits() {
    let router = sockets(&["/{x:float}", "/{name}"]);
    for (path, number) in
        [("/1.5", 1.5), ("/-0.25", -0.25), ("/3", 3.0), ("/007.50", 7.5), ("/-0.0", 0.0)]
    {
        assert_eq!(value(&router, path), Some(ParamValue::Number(number)), "{path}");
    }
    let huge = format!("/{}", "9".repeat(400));
    for path in
        ["/1.", "/.5", "/1e5", "/NaN", "/inf", "/Infinity", "/+1.5", "/1.2.3", "/--1", "/-", &huge]
    {
        assert_eq!(value(&router, path), Some(text(&path[1..])), "{path}");
    }
}

#[test]
fn parameters_are_decoded_after_the_path_was_split() {
    let router = sockets(&["/u/{name}", "/f/{rest:path}"]);
    assert_eq!(value(&router, "/u/josé"), Some(text("josé")));
    assert_eq!(value(&router, "/u/a%2Fb"), Some(text("a/b")));
    assert_eq!(value(&router, "/u/%2541"), Some(text("%41")));
    assert_eq!(value(&router, "/u/a%00b+c"), Some(text("a\0b+c")));
    assert_eq!(value(&router, "/u/%2e%2e"), Some(text("..")));
    assert_eq!(value(&router, "/f/caf%c3%a9/a%2Fb/c"), Some(text("café/a/b/c")));
}

#[test]
fn a_parameter_that_is_no_text_is_an_error() {
    let router = sockets(&["/u/{name}", "/f/{rest:path}", "/%FF"]);
    assert!(matches!(router.match_websocket("/u/%FF"), Err(PathError::NotUtf8 { .. })));
    assert!(matches!(router.match_websocket("/f/a/%C3/%A9"), Err(PathError::NotUtf8 { .. })));
    assert!(matches!(router.match_websocket("/u/%4"), Err(PathError::BadEscape { .. })));
    assert_eq!(found(&router, "/%FF"), Some(2));
    let router = http(&[("GET", "/u/{name}")]);
    assert!(router.match_http(&http::Method::GET, "/u/%FF").is_err());
    assert_eq!(
        router.match_http(&http::Method::POST, "/u/%FF"),
        Ok(HttpMatch::MethodNotAllowed { allow: "GET, HEAD, OPTIONS".into() }),
        "only what is handed over is decoded"
    );
}

#[test]
fn literal_text_matches_in_every_spelling_of_its_canonical_form() {
    let router = sockets(&["/café", "/a%2fb", "/:name", "/a b/*", "/%7bid%7D"]);
    assert_eq!(found(&router, "/caf%C3%A9"), Some(0));
    assert_eq!(found(&router, "/c%61f%c3%a9"), Some(0));
    assert_eq!(found(&router, "/a%2Fb"), Some(1));
    assert_eq!(found(&router, "/a/b"), None);
    assert_eq!(found(&router, "/:name"), Some(2));
    assert_eq!(found(&router, "/bob"), None);
    assert_eq!(found(&router, "/a%20b/*"), Some(3));
    assert_eq!(found(&router, "/{id}"), Some(4));
}

#[test]
fn names_that_mean_something_to_javascript_are_ordinary_names() {
    let router = sockets(&["/{__proto__}/{constructor}/{_1}/{toString:int}"]);
    let (_, params) = find(&router, "/a/__proto__/c/4").unwrap();
    let names: Vec<&str> = params.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["__proto__", "constructor", "_1", "toString"]);
    assert_eq!(params[1].1, text("__proto__"));
}

#[test]
fn a_route_of_the_same_shape_replaces_the_earlier_one_with_its_names() {
    let mut router = sockets(&["/x/{a}/{n:int}", "/x/{a}/{n:float}"]);
    let newer = WebSocketRoute { id: 9, binary: true, ..Default::default() };
    assert_eq!(router.insert_websocket(pattern("/%78/{b}/{m:int}"), newer.clone()), Some(0));
    let (route, params) = router.match_websocket("/x/y/1").unwrap().unwrap();
    assert_eq!(route, newer);
    assert_eq!(params, [("b".into(), text("y")), ("m".into(), ParamValue::Number(1.0))]);
    assert_eq!(found(&router, "/x/y/1.5"), Some(1), "another type is another shape");

    let mut router = http(&[("GET", "/x/{a}"), ("POST", "/x/{a}"), ("ANY", "/x/{a}")]);
    assert_eq!(router.insert_http(Method::Any, pattern("/x/{b}"), 7), Some(2));
    assert_eq!(router.insert_http(Method::Only(http::Method::GET), pattern("/x/{c}"), 8), Some(0));
    assert_eq!(answer(&router, "POST", "/x/1"), Some(1));
    assert_eq!(answer(&router, "PUT", "/x/1"), Some(7));
    let params = vec![("c".into(), text("1"))];
    assert_eq!(request(&router, "GET", "/x/1"), HttpMatch::Found { id: 8, params });
}

#[test]
fn websocket_and_http_routes_of_one_path_live_beside_each_other() {
    let mut router = http(&[("GET", "/chat/{room}"), ("GET", "/only/http")]);
    router.insert_websocket(
        pattern("/{rest:path}"),
        WebSocketRoute { id: 5, binary: false, ..Default::default() },
    );
    assert_eq!(answer(&router, "GET", "/chat/a"), Some(0));
    assert_eq!(found(&router, "/chat/a"), Some(5), "the more specific one has no socket");
    assert_eq!(found(&router, "/only/http"), Some(5));
    assert_eq!(request(&router, "GET", "/socket"), HttpMatch::NotFound);
    assert_eq!(request(&router, "OPTIONS", "/socket"), HttpMatch::NotFound);
}

#[test]
fn a_shape_without_the_method_gives_way_to_one_that_has_it() {
    let router = http(&[
        ("GET", "/x/me"),
        ("POST", "/x/{name}"),
        ("DELETE", "/x/{id:int}"),
        ("PUT", "/{r:path}"),
    ]);
    assert_eq!(answer(&router, "GET", "/x/me"), Some(0));
    assert_eq!(answer(&router, "HEAD", "/x/me"), Some(0));
    assert_eq!(answer(&router, "POST", "/x/me"), Some(1));
    assert_eq!(answer(&router, "POST", "/x/7"), Some(1));
    assert_eq!(answer(&router, "DELETE", "/x/7"), Some(2));
    assert_eq!(answer(&router, "PUT", "/x/me"), Some(3));
    let params = vec![("r".into(), text("x/7"))];
    assert_eq!(request(&router, "PUT", "/x/7"), HttpMatch::Found { id: 3, params });
    assert_eq!(allow(&router, "PATCH", "/x/me"), "GET, HEAD, OPTIONS, POST, PUT");
    assert_eq!(allow(&router, "PATCH", "/x/7"), "DELETE, OPTIONS, POST, PUT");
    assert_eq!(allow(&router, "GET", "/x/7"), "DELETE, OPTIONS, POST, PUT");
}

#[test]
fn head_falls_back_to_get_and_options_is_answered_with_allow() {
    let router = http(&[
        ("GET", "/a"),
        ("GET", "/b"),
        ("HEAD", "/b"),
        ("OPTIONS", "/b"),
        ("POST", "/c"),
        ("ANY", "/d"),
        ("GET", "/d"),
    ]);
    assert_eq!(answer(&router, "HEAD", "/a"), Some(0));
    assert_eq!(allow(&router, "OPTIONS", "/a"), "GET, HEAD, OPTIONS");
    assert_eq!(answer(&router, "HEAD", "/b"), Some(2));
    assert_eq!(answer(&router, "OPTIONS", "/b"), Some(3));
    assert_eq!(allow(&router, "HEAD", "/c"), "OPTIONS, POST");
    assert_eq!(answer(&router, "HEAD", "/d"), Some(6), "GET before any");
    for method in ["POST", "OPTIONS", "DELETE", "TRACE", "BREW"] {
        assert_eq!(answer(&router, method, "/d"), Some(5), "{method}");
    }
    assert_eq!(request(&router, "OPTIONS", "/e"), HttpMatch::NotFound);
    assert!("get it".parse::<Method>().is_err());
}
