//! Where a value lands decides how it is escaped, and it arrives there as itself.

use super::*;

/// Values that mean something in HTML or in a JavaScript string.
const HOSTILE: [&str; 16] = [
    "</script><b>",
    "\\",
    "R&D",
    "a\"b",
    "'",
    "`",
    "${x}",
    "\u{2028}\u{2029}",
    "line\r\nline",
    "\\\"; alert(1); //",
    "\\u0022",
    "&quot;&#x27;&lt;",
    "<!-- <script>",
    "\0\t\u{1}\u{7f}\u{85}",
    "{{ 7 * 7 }}{% if %}",
    "josé 😀 日本",
];

/// What is between the first `start` and the next `end`.
fn between<'a>(page: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = page.split_once(start).unwrap_or_else(|| panic!("no {start} in {page}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end} in {page}")).0
}

/// What a browser shows for HTML text or an attribute value.
fn html_decoded(text: &str) -> String {
    for c in ['<', '>', '"', '\''] {
        assert!(!text.contains(c), "{c} is bare in {text:?}");
    }
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#x27;", "'")
        .replace("&amp;", "&")
}

/// What a JavaScript engine makes of the inside of a string literal, whichever quotes it has.
fn js_decoded(literal: &str) -> String {
    let mut text = String::new();
    let mut characters = literal.chars();
    while let Some(c) = characters.next() {
        assert!(
            !matches!(c, '"' | '\'' | '`' | '$' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}'),
            "{c:?} is bare in {literal:?}"
        );
        assert!(!c.is_ascii_control(), "{c:?} is bare in {literal:?}");
        if c == '\\' {
            assert_eq!(characters.next(), Some('u'), "{literal:?}");
            let code: String = characters.by_ref().take(4).collect();
            let code = u32::from_str_radix(&code, 16).expect("four hex digits");
            text.push(char::from_u32(code).expect("no surrogate"));
        } else {
            text.push(c);
        }
    }
    text
}

/// Renders `page.html` of `files` with each hostile value as `x` and checks what arrives between
/// the brackets.
fn arrives(files: &[(&str, &str)], start: &str, end: &str, decode: fn(&str) -> String) {
    let app = App::new(files);
    for value in HOSTILE {
        let page = app.render("page.html", json!({ "x": value }));
        assert_eq!(decode(between(&page, start, end)), value, "in {page:?}");
    }
}

#[test]
fn a_value_arrives_as_itself_in_html_text_and_attributes() {
    arrives(&[("page.html", "<p>{{ x }}</p>")], "<p>", "</p>", html_decoded);
    arrives(&[("page.html", "<a title=\"{{ x }}\">")], "title=\"", "\">", html_decoded);
    arrives(&[("page.html", "<a title='{{ x }}'>")], "title='", "'>", html_decoded);
    arrives(&[("page.html", "[{{ x|e }}]")], "[", "]", html_decoded);
}

#[test]
fn a_value_arrives_as_itself_in_a_script_string() {
    for quote in ["\"", "'", "`"] {
        let source = format!("<script>const x = {quote}{{{{ x }}}}{quote};</script>");
        let (start, end) = (format!("= {quote}"), format!("{quote};"));
        arrives(&[("page.html", &source)], &start, &end, js_decoded);
    }
    for source in [
        "<SCRIPT type=\"module\">x = '{{ x }}';</SCRIPT>",
        "<script src=\"/js/a.js\"></script>\n<script>x = '{{ x }}';</script>",
        "<script>x = '{{ x|e }}';</script>",
        "<script>{% if true %}x = '{{ x ~ '' }}';{% endif %}</script>",
        "<script>{% for y in [x] %}x = '{{ y }}';{% endfor %}</script>",
        "{% if true %}<script>{% endif %}x = '{{ x }}';</script>",
        "{# <title> #}{% raw %}<p>{{{% endraw %}<script>x = '{{ x }}';</script>",
        "<script>{{ '<!-- <script> </script>'|safe }} x = '{{ x }}';</script>",
        "{% autoescape true %}<script>x = '{{ x }}';</script>{% endautoescape %}",
    ] {
        arrives(&[("page.html", source)], "x = '", "';", js_decoded);
    }
}

#[test]
fn text_that_only_mentions_script_stays_html() {
    for source in [
        "{# <script> #}<p>{{ x }}</p>",
        "<a title=\"<script>\"><p>{{ x }}</p>",
        "<!-- <script> --><p>{{ x }}</p>",
        "<title><script></title><p>{{ x }}</p>",
        "{{ '<script>' }}<p>{{ x }}</p>",
        "<script>{% raw %}'{{'{% endraw %}</script><p>{{ x }}</p>",
    ] {
        arrives(&[("page.html", source)], "<p>", "</p>", html_decoded);
    }
}

#[test]
fn the_place_counts_for_blocks_includes_macros_and_captures() {
    let base = (
        "base.html",
        "<h1>{% block head %}{% endblock %}</h1><script>{% block js %}{% endblock %}</script>",
    );
    arrives(
        &[
            base,
            ("page.html", "{% extends 'base.html' %}{% block js %}x = '{{ x }}';{% endblock %}"),
        ],
        "x = '",
        "';",
        js_decoded,
    );
    arrives(
        &[base, ("page.html", "{% extends 'base.html' %}{% block head %}{{ x }}{% endblock %}")],
        "<h1>",
        "</h1>",
        html_decoded,
    );
    arrives(
        &[
            ("base.html", "<script>{% block js %}x = '{{ x }}';{% endblock %}</script>"),
            ("page.html", "{% extends 'base.html' %}{% block js %}{{ super() }}{% endblock %}"),
        ],
        "x = '",
        "';",
        js_decoded,
    );
    let part = ("part.txt", "'{{ x }}';");
    arrives(
        &[part, ("page.html", "<script>x = {% include 'part.txt' %}</script>")],
        "x = '",
        "';",
        js_decoded,
    );
    for source in [
        "{% macro m(v) %}'{{ v }}';{% endmacro %}<script>x = {{ m(x) }}</script>",
        "{% macro m() %}{{ caller() }}{% endmacro %}\
         <script>x = {% call m() %}'{{ x }}';{% endcall %}</script>",
        "{% set s %}'{{ x }}';{% endset %}<script>x = {{ s }}</script>",
        "<script>x = {% filter trim %}'{{ x }}';{% endfilter %}</script>",
        "{% macro m(v) %}<script>x = '{{ v }}';</script>{% endmacro %}{{ m(x) }}",
    ] {
        arrives(&[("page.html", source)], "x = '", "';", js_decoded);
    }
    let macro_file = ("m.html", "{% macro m(v) %}'{{ v }}';{% endmacro %}");
    let page = "{% from 'm.html' import m %}<script>x = {{ m(x) }}</script>";
    arrives(&[macro_file, ("page.html", page)], "x = '", "';", js_decoded);
}

#[test]
fn filters_on_captured_text_do_not_tear_escapes_apart() {
    let source = "{% set s %}{{ x }}{% endset %}{{ s|length }} {{ s[:2] }} {{ s|reverse }}";
    assert_eq!(page(source, json!({"x": "a<b"})), "3 a&lt; b&lt;a");
    let source = "{% set s %}{{ x }}{% endset %}{{ s|truncate(2) }}";
    assert_eq!(page(source, json!({"x": "a<b"})), "a&lt;...");
    let source = "{% filter upper %}<b>{{ x }}</b>{% endfilter %}";
    assert_eq!(page(source, json!({"x": "r&d"})), "<B>R&amp;D</B>");
}

#[test]
fn markup_captured_and_given_to_a_script_as_json_is_still_escaped() {
    let source = "{% set s %}<b>{{ x }}</b>{% endset %}<script>x = {{ s|tojson }};</script>";
    let page = page(source, json!({"x": "<img onerror=\"\\\">\n"}));
    let html: String = serde_json::from_str(between(&page, "x = ", ";</")).expect("JSON");
    assert_eq!(html, "<b>&lt;img onerror=&quot;\\&quot;&gt;\n</b>");
}

#[test]
fn safe_values_and_json_pass() {
    let data = json!({"x": "<b>'\"&</b>", "o": {"a": ["</script>", 1, null, true, "\u{2028}"]}});
    assert_eq!(page("{{ x|safe }}{{ x|raw }}", data.clone()), "<b>'\"&</b><b>'\"&</b>");
    assert_eq!(page("<script>{{ x|safe }}</script>", data.clone()), "<script><b>'\"&</b></script>");
    assert_eq!(
        page("{% autoescape false %}{{ x }}{% endautoescape %}", data.clone()),
        "<b>'\"&</b>"
    );
    for filter in ["tojson", "to_json", "json_encode", "tojson(true)"] {
        let source = format!("<script>x = {{{{ o|{filter} }}}};</script>");
        let page = page(&source, data.clone());
        let json = between(&page, "x = ", ";</script>");
        assert!(!json.contains(['<', '>', '&', '\'', '\u{2028}']), "{json}");
        let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(value, data["o"]);
    }
}

#[test]
fn a_list_where_a_string_was_expected_cannot_leave_its_quotes() {
    let data = json!({"x": ["\"];alert(1)//", {"k": "</script>"}]});
    let script = page("<script>x = \"{{ x }}\";</script>", data.clone());
    let text = js_decoded(between(&script, "x = \"", "\";"));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), data["x"]);
    let html = page("<p>{{ x }}</p>", data.clone());
    let text = html_decoded(between(&html, "<p>", "</p>"));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), data["x"]);
}

#[test]
fn noncharacters_in_the_data_are_replaced() {
    let data = json!({"x": "a\u{fdd0}b", "o": {"\u{ffff}": 1}});
    let source = "{{ x }} {% for k in o %}{{ k }}{% endfor %}";
    assert_eq!(page(source, data), "a\u{fffd}b \u{fffd}");
}
