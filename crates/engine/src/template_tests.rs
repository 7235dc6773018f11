use serde_json::json;
use tempfile::TempDir;

use super::*;

#[path = "template_escape_tests.rs"]
mod escaping;

/// An app folder with templates and the package's folder.
struct App {
    folder: TempDir,
    templates: Templates,
}

impl App {
    fn new(files: &[(&str, &str)]) -> App {
        App::with(files, false)
    }

    fn with(files: &[(&str, &str)], development: bool) -> App {
        let folder = TempDir::new().expect("a temporary folder");
        let [app, package] = ["app", "package"].map(|name| folder.path().join(name));
        let templates = Templates::new(&app, &package, development);
        let app = App { folder, templates };
        for (name, source) in files {
            app.write(&format!("app/{name}"), source);
        }
        app
    }

    fn write(&self, path: &str, source: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(path, source).expect("written");
    }

    fn render(&self, name: &str, data: serde_json::Value) -> String {
        self.templates.render(name, data).unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(&self, name: &str) -> TemplateError {
        match self.templates.render(name, json!({})) {
            Err(error) => error,
            Ok(page) => panic!("{name} rendered {page:?}"),
        }
    }
}

/// The page of a single template.
fn page(source: &str, data: serde_json::Value) -> String {
    App::new(&[("page.html", source)]).render("page.html", data)
}

#[test]
fn values_print_as_in_frond() {
    let data = json!({"n": null, "t": true, "f": false, "i": 42, "d": 1.5, "s": ""});
    let source =
        "[{{ n }}{{ s }}{{ nothing }}{{ nothing.at.all }}]{{ t }} {{ f }} {{ i }} {{ d }} {{ -i }}";
    let expected = "[]true false 42 1.5 -42";
    assert_eq!(page(source, data.clone()), expected);
    let source = format!("<script>{source}</script>");
    assert_eq!(page(&source, data), format!("<script>{expected}</script>"));
    assert_eq!(page("[{{ x }}]", json!(null)), "[]");
}

#[test]
fn the_extra_filters_do_what_their_names_say() {
    let mut data = json!({"t": "a<\r\nb\nc", "l": "four words are here"});
    data["n"] = json!(1_234_567.891);
    data["s"] = json!("1234.5");
    data["m"] = json!(-0.4);
    for (source, expected) in [
        ("{{ t|nl2br }}", "a&lt;<br>\nb<br>\nc"),
        ("{{ '<b>\n'|safe|nl2br }}", "<b><br>\n"),
        ("{{ n|number_format }}", "1,234,568"),
        ("{{ n|number_format(2) }}", "1,234,567.89"),
        ("{{ n|number_format(2, ',', '.') }}", "1.234.567,89"),
        ("{{ s|number_format(1) }}", "1,234.5"),
        ("{{ m|number_format }}", "0"),
        ("{{ (-1000)|number_format }}", "-1,000"),
        ("{{ 999|number_format }}", "999"),
        ("{{ l|truncate(10) }}", "four words..."),
        ("{{ l|truncate(5, '…') }}", "four…"),
        ("{{ l|truncate(19) }}", "four words are here"),
        ("{{ nothing|truncate(3) }}", ""),
        ("{{ '<b>x</b>'|safe|truncate(4) }}", "&lt;b&gt;x..."),
        ("{{ 'a&b/ü'|urlencode }} {{ 'a&b'|e|urlencode }}", "a%26b/%C3%BC a%26b"),
    ] {
        assert_eq!(page(source, data.clone()), expected, "{source}");
    }
    let app = App::new(&[("page.html", "{{ 'abc'|number_format }}")]);
    let message = app.error("page.html").to_string();
    assert!(message.contains("number_format takes a number, not string 'abc'"), "{message}");
}

#[test]
fn the_apps_own_file_wins_over_the_packages() {
    let app =
        App::new(&[("page.html", "{% extends 'base.html' %}{% block content %}hi{% endblock %}")]);
    app.write("package/base.html", "package {% block content %}{% endblock %}");
    assert_eq!(app.render("page.html", json!({})), "package hi");
    let app = App::new(&[("base.html", "app")]);
    app.write("package/base.html", "package");
    assert_eq!(app.render("base.html", json!({})), "app");
}

#[test]
fn the_packaged_base_takes_a_page_in_its_blocks() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../templates");
    let app = TempDir::new().expect("a temporary folder");
    let source = "{% extends 'base.html' %}{% block title %}{{ x }}{% endblock %}
        {% block head %}<link href=a>{% endblock %}{% block content %}<p>{{ x }}</p>{% endblock %}
        {% block scripts %}<script>x = '{{ x }}'</script>{% endblock %}";
    std::fs::write(app.path().join("page.html"), source).expect("written");
    let templates = Templates::new(app.path(), &package, false);
    let page = templates.render("page.html", json!({"x": "R&D"})).expect("a page");
    let mut rest = page.as_str();
    for part in [
        "<!DOCTYPE html>",
        "<html lang=\"en\">",
        "<meta charset=\"utf-8\">",
        "<title>R&amp;D</title>",
        "<link href=a>",
        "</head>",
        "<main>",
        "<p>R&amp;D</p>",
        "</main>",
        "<script>x = 'R\\u0026D'</script>",
        "</html>",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part} in its place in {page}"));
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn in_development_every_edit_is_seen_by_the_next_render() {
    let files = [
        (
            "page.html",
            "{% extends 'base.html' %}{% block b %}{% include 'part.html' %}{% endblock %}",
        ),
        ("base.html", "1{% block b %}{% endblock %}"),
        ("part.html", "2"),
    ];
    let app = App::with(&files, true);
    assert_eq!(app.render("page.html", json!({})), "12");
    app.write("app/part.html", "3");
    assert_eq!(app.render("page.html", json!({})), "13");
    app.write("app/base.html", "4{% block b %}{% endblock %}");
    assert_eq!(app.render("page.html", json!({})), "43");
    app.write("app/page.html", "5");
    assert_eq!(app.render("page.html", json!({})), "5");
    std::fs::remove_file(app.folder.path().join("app/page.html")).expect("removed");
    assert!(app.error("page.html").to_string().contains("not found"));
}

#[test]
fn in_production_a_template_is_read_once() {
    let app = App::new(&[("page.html", "1")]);
    assert_eq!(app.render("page.html", json!({})), "1");
    app.write("app/page.html", "2");
    assert_eq!(app.render("page.html", json!({})), "1");
}

#[test]
fn an_error_names_the_template_and_the_line() {
    let app = App::new(&[
        ("filter.html", "a\nb\n{{ x|nope }}"),
        ("function.html", "\n{{ nope() }}"),
        ("syntax.html", "\n\n{% if %}"),
        ("open.html", "a\n{% for x in y %}"),
        ("runtime.html", "\n{{ 1 + 'a' }}"),
        ("include.html", "\n{% include 'filter.html' %}"),
        ("extends.html", "{% extends 'syntax.html' %}"),
        ("block.html", "{% block a %}\n{{ 1 is nope }}{% endblock %}"),
        ("missing.html", "\n\n\n{% include 'nowhere.html' %}"),
    ]);
    for (name, template, line, words) in [
        ("filter.html", "filter.html", 3, "unknown filter \"nope\""),
        ("function.html", "function.html", 2, "unknown function \"nope\""),
        ("syntax.html", "syntax.html", 3, "syntax error"),
        ("open.html", "open.html", 2, "syntax error"),
        ("runtime.html", "runtime.html", 2, "+"),
        ("include.html", "filter.html", 3, "unknown filter \"nope\""),
        ("extends.html", "syntax.html", 3, "syntax error"),
        ("block.html", "block.html", 2, "unknown test \"nope\""),
        ("missing.html", "missing.html", 4, "nowhere.html"),
    ] {
        let error = app.error(name);
        let message = error.to_string();
        assert_eq!((error.template(), error.line()), (template, Some(line)), "{message}");
        assert!(message.starts_with(&format!("template {template:?} line {line}: ")), "{message}");
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(
        app.error("filter.html").to_string(),
        "template \"filter.html\" line 3: unknown filter \"nope\""
    );
}

#[test]
fn a_missing_template_says_where_it_was_looked_for() {
    let app = App::new(&[("page.html", "{% include 'nowhere.html' %}")]);
    let folder = app.folder.path();
    let looked = format!(
        "(looked in {} and {})",
        folder.join("app").display(),
        folder.join("package").display()
    );
    let message = app.error("nowhere.html").to_string();
    assert_eq!(message, format!("template \"nowhere.html\": not found {looked}"));
    let message = app.error("page.html").to_string();
    assert!(message.contains("'nowhere.html'") && message.ends_with(&looked), "{message}");
    let app = App::new(&[("page.html", "[{% include 'nowhere.html' ignore missing %}]")]);
    assert_eq!(app.render("page.html", json!({})), "[]");
}

#[test]
fn a_name_cannot_leave_the_templates_folder() {
    let app = App::new(&[("page.html", "x"), ("sub/.hidden/a.html", "x"), (".env", "x")]);
    app.write("secret.html", "secret");
    let absolute = app.folder.path().join("secret.html").display().to_string();
    for name in [
        "../secret.html",
        "sub/../../secret.html",
        "./page.html",
        "sub//page.html",
        "sub/",
        "",
        "/page.html",
        &absolute,
        "..\\secret.html",
        "page.html\0",
        "C:page.html",
        ".env",
        "sub/.hidden/a.html",
    ] {
        let message = app.error(name).to_string();
        assert!(message.contains("is not accepted"), "{name:?}: {message}");
    }
    app.write("app/include.html", "{% include ['../secret.html', 'page.html'] ignore missing %}");
    let error = app.error("include.html");
    assert_eq!((error.template(), error.line()), ("include.html", Some(1)));
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_templates_folder_is_refused_and_one_inside_serves() {
    use std::os::unix::fs::symlink;

    let app = App::new(&[("page.html", "inside")]);
    app.write("out/secret.html", "secret");
    let root = app.folder.path();
    symlink(root.join("out/secret.html"), root.join("app/file.html")).expect("linked");
    symlink(root.join("out"), root.join("app/folder")).expect("linked");
    symlink("page.html", root.join("app/alias.html")).expect("linked");
    for name in ["file.html", "folder/secret.html"] {
        let message = app.error(name).to_string();
        assert!(message.contains("leads out of the templates folder"), "{message}");
    }
    assert_eq!(app.render("alias.html", json!({})), "inside");
}

#[test]
fn what_cannot_be_read_as_a_template_says_why() {
    let app = App::new(&[
        ("folder.html/x", ""),
        ("reserved.html", "a\u{fdd0}"),
        ("bom.html", "\u{feff}x"),
    ]);
    let root = app.folder.path().join("app");
    std::fs::write(root.join("binary.html"), b"\xff\xfe").expect("written");
    let large = " ".repeat(MAX_TEMPLATE_SIZE as usize + 1);
    std::fs::write(root.join("large.html"), large).expect("written");
    for (name, words) in [
        ("folder.html", "it is not a file"),
        ("reserved.html", "it contains the noncharacter U+FDD0"),
        ("binary.html", "it is not UTF-8 text"),
        ("large.html", "it is larger than 4 MiB"),
    ] {
        let message = app.error(name).to_string();
        assert!(message.contains(words) && message.contains(name), "{message}");
    }
    assert_eq!(app.render("bom.html", json!({})), "x");
}

#[test]
fn a_template_that_needs_itself_is_an_error() {
    let app = App::new(&[
        ("include.html", "{% include 'include.html' %}"),
        ("extends.html", "{% extends 'extends.html' %}"),
        ("macro.html", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
        ("a.html", "{% extends 'b.html' %}"),
        ("b.html", "{% extends 'a.html' %}"),
    ]);
    for name in ["include.html", "extends.html", "macro.html", "a.html"] {
        let error = app.error(name);
        assert!(error.line().is_some(), "{error}");
    }
}

#[test]
fn work_and_output_are_bounded() {
    let mut app = App::new(&[
        ("range.html", "{% for i in range(10**9) %}x{% endfor %}"),
        (
            "loops.html",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        ),
        ("large.html", "{% for i in range(5) %}{{ 'x' * 300000 }}{% endfor %}"),
        (
            "capture.html",
            "{% set s %}{% for i in range(9999) %}{{ 'x' * 1000 }}{% endfor %}{% endset %}",
        ),
    ]);
    assert_eq!(app.templates.max_page_size, 32 * 1024 * 1024);
    assert_eq!(app.templates.environment.fuel(), Some(RENDER_FUEL));
    // The same rules with less to wait for.
    app.templates.max_page_size = 1024 * 1024;
    app.templates.environment.set_fuel(Some(RENDER_FUEL / 100));
    for (name, words) in [
        ("range.html", "range has too many elements"),
        ("loops.html", "too much work"),
        ("large.html", "the page is larger than 1 MiB"),
        ("capture.html", "too much work"),
    ] {
        let message = app.error(name).to_string();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn data_as_deep_as_json_may_be_renders() {
    let deep = "[".repeat(126) + &"]".repeat(126);
    let data: serde_json::Value = serde_json::from_str(&format!("{{\"x\":{deep}}}")).expect("JSON");
    assert_eq!(page("{{ x }}", data), deep);
}

#[test]
fn templates_can_move_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Templates>();
}
