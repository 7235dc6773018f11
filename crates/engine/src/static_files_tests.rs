use std::fs;

use tempfile::TempDir;

use super::*;

/// A folder with two roots, `first` and `second`, and a secret beside them.
struct Site {
    folder: TempDir,
    files: StaticFiles,
}

impl Site {
    fn new(files: &[(&str, &str)]) -> Site {
        let folder = TempDir::new().expect("a temporary folder");
        let roots = ["first", "second"].map(|name| folder.path().join(name));
        let site = Site { folder, files: StaticFiles::new(roots.to_vec()) };
        site.write("secret.txt", "secret");
        for (name, text) in files {
            site.write(&format!("first/{name}"), text);
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(path, text).expect("written");
    }

    async fn respond(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
    ) -> Option<Response<Body>> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().expect("a header value")))
            .collect();
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        self.files.serve(&method, path, query, &headers).await.expect("no error")
    }

    async fn get(&self, path: &str) -> Option<Response<Body>> {
        self.respond(Method::GET, path, &[]).await
    }

    async fn text(&self, path: &str) -> Option<String> {
        Some(text(self.get(path).await?).await)
    }
}

async fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

fn header_of(response: &Response<Body>, name: HeaderName) -> &str {
    response.headers().get(&name).map_or("", |value| value.to_str().expect("text"))
}

#[tokio::test]
async fn a_file_is_sent_with_its_type_length_and_cache_headers() {
    let site = Site::new(&[("a.html", "<p>é"), ("b/c d.txt", "x"), ("é.txt", "y")]);
    let response = site.get("/a.html").await.expect("a response");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header_of(&response, header::CONTENT_LENGTH), "5");
    assert_eq!(header_of(&response, header::CACHE_CONTROL), "no-cache");
    assert_eq!(header_of(&response, header::X_CONTENT_TYPE_OPTIONS), "nosniff");
    assert!(header_of(&response, header::ETAG).starts_with('"'));
    assert!(header_of(&response, header::LAST_MODIFIED).ends_with(" GMT"));
    assert_eq!(text(response).await, "<p>é");
    assert_eq!(site.text("/b/c%20d.txt").await.as_deref(), Some("x"));
    assert_eq!(site.text("/%C3%A9.txt").await.as_deref(), Some("y"));
    assert!(site.get("/nowhere.html").await.is_none());
    assert!(site.get("/a.html/x").await.is_none());
    assert!(site.get("/A.html%20").await.is_none());
}

#[tokio::test]
async fn content_types_follow_the_extension_and_text_is_utf_8() {
    let site = Site::new(&[]);
    for (name, content_type) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.json", "application/json; charset=utf-8"),
        ("a.svg", "image/svg+xml; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.png", "image/png"),
        ("a.woff2", "font/woff2"),
        ("a.wasm", "application/wasm"),
        ("a.unknown-extension", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ] {
        site.write(&format!("first/{name}"), "x");
        let response = site.get(&format!("/{name}")).await.expect("a response");
        assert_eq!(header_of(&response, header::CONTENT_TYPE), content_type);
    }
}

#[tokio::test]
async fn head_sends_the_headers_and_other_methods_nothing() {
    let site = Site::new(&[("a.txt", "12345")]);
    let response = site.respond(Method::HEAD, "/a.txt", &[]).await.expect("a response");
    assert_eq!(header_of(&response, header::CONTENT_LENGTH), "5");
    assert_eq!(text(response).await, "");
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        assert!(site.respond(method, "/a.txt", &[]).await.is_none());
    }
}

#[tokio::test]
async fn a_file_the_browser_has_is_304_until_it_changes() {
    let site = Site::new(&[("a.txt", "1")]);
    let response = site.get("/a.txt").await.expect("a response");
    let etag = header_of(&response, header::ETAG).to_owned();
    let modified = header_of(&response, header::LAST_MODIFIED).to_owned();
    let listed = format!("\"other\", W/{etag}");
    for (name, value) in [
        (header::IF_NONE_MATCH, &etag),
        (header::IF_NONE_MATCH, &listed),
        (header::IF_MODIFIED_SINCE, &modified),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let response = site.respond(method, "/a.txt", &[(name.clone(), value)]).await;
            let response = response.expect("a response");
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{name}");
            assert_eq!(header_of(&response, header::ETAG), etag);
            assert_eq!(header_of(&response, header::CACHE_CONTROL), "no-cache");
            assert_eq!(text(response).await, "");
        }
    }
    for (name, value) in [
        (header::IF_NONE_MATCH, "\"other\""),
        (header::IF_MODIFIED_SINCE, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (header::IF_MODIFIED_SINCE, "not a date"),
    ] {
        let response = site.respond(Method::GET, "/a.txt", &[(name, value)]).await;
        assert_eq!(response.expect("a response").status(), StatusCode::OK);
    }
    site.write("first/a.txt", "22");
    let response = site.respond(Method::GET, "/a.txt", &[(header::IF_NONE_MATCH, &etag)]).await;
    assert_eq!(text(response.expect("a response")).await, "22");
}

#[tokio::test]
async fn a_range_is_sent_unless_it_depends_on_a_version() {
    let site = Site::new(&[("a.txt", "12345")]);
    let range = (header::RANGE, "bytes=1-2");
    let response = site.respond(Method::GET, "/a.txt", std::slice::from_ref(&range)).await;
    let response = response.expect("a response");
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header_of(&response, header::CONTENT_RANGE), "bytes 1-2/5");
    assert_eq!(text(response).await, "23");
    let headers = [range, (header::IF_RANGE, "\"old\"")];
    let response = site.respond(Method::GET, "/a.txt", &headers).await.expect("a response");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, "12345");
}

#[tokio::test]
async fn a_folder_is_its_index_under_a_trailing_slash() {
    let site = Site::new(&[("index.html", "root"), ("a b/index.html", "sub"), ("none/x", "")]);
    assert_eq!(site.text("/").await.as_deref(), Some("root"));
    assert_eq!(site.text("/a%20b/").await.as_deref(), Some("sub"));
    let response = site.get("/a%20b").await.expect("a response");
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(header_of(&response, header::LOCATION), "/a%20b/");
    let response = site.get("/a%20b?code=1&x=%0a").await.expect("a response");
    assert_eq!(header_of(&response, header::LOCATION), "/a%20b/?code=1&x=%0a");
    for path in ["/none", "/none/", "/index.html/", "//", "//a%20b", "/a%20b//", "/%5ca%20b"] {
        assert!(site.get(path).await.is_none(), "{path}");
    }
}

#[tokio::test]
async fn a_redirect_cannot_lead_to_another_host() {
    let site = Site::new(&[("evil/index.html", "x"), ("evil.example/index.html", "x")]);
    for path in ["//evil", "//evil.example", "/%2fevil", "/\\evil", "/%5cevil", "///evil"] {
        assert!(site.get(path).await.is_none(), "{path}");
    }
}

#[tokio::test]
async fn the_first_root_that_has_the_file_wins_and_a_root_may_appear_later() {
    let site = Site::new(&[]);
    assert!(site.get("/a.txt").await.is_none());
    site.write("second/a.txt", "second");
    assert_eq!(site.text("/a.txt").await.as_deref(), Some("second"));
    site.write("first/a.txt", "first");
    assert_eq!(site.text("/a.txt").await.as_deref(), Some("first"));
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_out_of_the_root() {
    let site = Site::new(&[("a/b.txt", "x")]);
    for path in [
        "/../secret.txt",
        "/a/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2E./secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/%252e%252e/secret.txt",
        "/%252e%252e%252fsecret.txt",
        "/a%2fb.txt",
        "/a%5cb.txt",
        "/a/./b.txt",
        "/a//b.txt",
        "/a/b.txt%00",
        "/a/b.txt\0",
        "/a/b.txt%00.png",
        "/a/b.tx%",
        "/a/b.tx%7",
        "/a/b.tx%zz",
        "/a/b.txt%ff",
        "a/b.txt",
        "",
        "*",
    ] {
        assert!(site.get(path).await.is_none(), "{path}");
    }
    let absolute = site.path("secret.txt").display().to_string();
    for path in [format!("/{absolute}"), absolute.replacen('/', "/%2f", 1)] {
        assert!(site.get(&path).await.is_none(), "{path}");
    }
    let long = format!("/{}", "a".repeat(5000));
    assert!(site.get(&long).await.is_none());
    assert_eq!(site.text("/a/b.txt").await.as_deref(), Some("x"));
    site.write("first/100%.txt", "decoded once");
    assert_eq!(site.text("/100%25.txt").await.as_deref(), Some("decoded once"));
    assert!(site.get("/100%2525.txt").await.is_none());
}

#[tokio::test]
async fn names_that_begin_with_a_dot_are_not_served() {
    let site = Site::new(&[(".env", "x"), (".git/config", "x"), ("a/.b/c.txt", "x"), ("..x", "x")]);
    for path in ["/.env", "/%2eenv", "/.git/config", "/a/.b/c.txt", "/..x", "/."] {
        assert!(site.get(path).await.is_none(), "{path}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_is_followed_inside_the_root_and_refused_outside() {
    use std::os::unix::fs::symlink;

    let site = Site::new(&[("a/b.txt", "inside"), (".env", "x")]);
    site.write("out/index.html", "secret");
    let link = |target: &Path, name: &str| symlink(target, site.path(name)).expect("linked");
    link(&site.path("secret.txt"), "first/file.txt");
    link(&site.path("out"), "first/folder");
    link(Path::new("../../secret.txt"), "first/a/relative.txt");
    link(Path::new("nowhere"), "first/dangling");
    link(Path::new(".env"), "first/env.txt");
    fs::create_dir(site.path("first/indexed")).expect("created");
    link(&site.path("secret.txt"), "first/indexed/index.html");
    for path in [
        "/file.txt",
        "/folder/",
        "/folder",
        "/folder/index.html",
        "/a/relative.txt",
        "/dangling",
        "/env.txt",
        "/indexed/",
    ] {
        assert!(site.get(path).await.is_none(), "{path}");
    }
    link(Path::new("a/b.txt"), "first/file-inside.txt");
    link(Path::new("a"), "first/folder-inside");
    for path in ["/file-inside.txt", "/folder-inside/b.txt"] {
        assert_eq!(site.text(path).await.as_deref(), Some("inside"), "{path}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_root_that_is_itself_a_link_serves() {
    let site = Site::new(&[]);
    site.write("elsewhere/a.txt", "x");
    std::os::unix::fs::symlink(site.path("elsewhere"), site.path("first")).expect("linked");
    assert_eq!(site.text("/a.txt").await.as_deref(), Some("x"));
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_not_a_regular_file_is_not_opened() {
    use std::time::Duration;

    let site = Site::new(&[("a.txt", "x")]);
    let _socket = std::os::unix::net::UnixListener::bind(site.path("first/socket")).expect("bound");
    let status = std::process::Command::new("mkfifo").arg(site.path("first/pipe")).status();
    assert!(status.expect("mkfifo runs").success());
    for path in ["/pipe", "/socket"] {
        let response = tokio::time::timeout(Duration::from_secs(5), site.get(path)).await;
        assert!(response.expect("answered at once").is_none(), "{path}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn what_the_system_refuses_is_an_error_that_names_the_file() {
    // A loop of links is refused for every user; permissions would not stop root.
    let site = Site::new(&[("a.txt", "x")]);
    std::os::unix::fs::symlink("loop", site.path("first/loop")).expect("linked");
    let result = site.files.serve(&Method::GET, "/loop", None, &HeaderMap::new()).await;
    let message = result.expect_err("an error").to_string();
    let expected = format!("the file {} cannot be served: ", site.path("first/loop").display());
    assert!(message.starts_with(&expected), "{message}");
}

async fn file(site: &Site, path: impl AsRef<Path>) -> Option<String> {
    let (base, headers) = (site.path("first"), HeaderMap::new());
    let response = serve_file(&Method::GET, &base, path.as_ref(), &headers).await;
    Some(text(response.expect("no error")?).await)
}

#[tokio::test]
async fn serve_file_stays_in_its_folder() {
    let site = Site::new(&[("a/b.txt", "x"), (".env", "x"), ("index.html", "i")]);
    for path in ["a/b.txt", "./a/b.txt", "a//b.txt"] {
        assert_eq!(file(&site, path).await.as_deref(), Some("x"), "{path}");
    }
    assert_eq!(file(&site, site.path("first/a/b.txt")).await.as_deref(), Some("x"));
    for path in ["", ".", "a", "../secret.txt", "a/../../secret.txt", ".env", "a/../.env", "b\0"] {
        assert_eq!(file(&site, path).await, None, "{path}");
    }
    assert_eq!(file(&site, site.path("secret.txt")).await, None);
    // A path is a name here, not a URL.
    assert_eq!(file(&site, "a%2fb.txt").await, None);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret.txt", site.path("first/link")).expect("linked");
        assert_eq!(file(&site, "link").await, None);
    }
}

#[tokio::test]
async fn serve_file_honours_conditions_for_get_only() {
    let site = Site::new(&[("a.txt", "x")]);
    let base = site.path("first");
    let any = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static("*"))]);
    for (method, status) in [
        (Method::GET, StatusCode::NOT_MODIFIED),
        (Method::HEAD, StatusCode::NOT_MODIFIED),
        (Method::POST, StatusCode::OK),
    ] {
        let response = serve_file(&method, &base, Path::new("a.txt"), &any).await;
        let response = response.expect("no error").expect("a response");
        assert_eq!(response.status(), status, "{method}");
    }
}
