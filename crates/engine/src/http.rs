//! HTTP requests of one shard, through hyper: routes, static files, `/health` and upgrades.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use crate::close;
use crate::command::{Answer, AnswerBody};
use crate::connection::{Connection, Socket};
use crate::context::{Context, Load};
use crate::event::{self, Event, Head, LogLevel, Opened};
use crate::hub::Hub;
use crate::outbox::Gauge;
use crate::path;
use crate::router::{HttpMatch, Params, RouteId, WebSocketRoute};
use crate::routes::Routes;
use crate::slots::{Handle, Slots};
use crate::static_files::{self, StaticFiles};
use crate::upgrade::{self, Rejection};

/// A response body: bytes at hand, or a file that is read as it is written.
pub(crate) type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, std::io::Error>>;

/// How far the ending of the server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Taking requests.
    Serving,
    /// Answering what is in flight, nothing new.
    Draining,
    /// The time for draining is over.
    Ending,
}

/// What the engine knows of the app it serves.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// What `res.file` may reach.
    pub(crate) directory: PathBuf,
    /// What `/health` reports.
    pub(crate) version: String,
    /// When the engine started.
    pub(crate) started: Instant,
}

pub(crate) struct Http {
    shard: usize,
    context: Rc<Context<Connection>>,
    hub: Rc<RefCell<Hub>>,
    routes: Arc<Routes>,
    files: StaticFiles,
    served: Served,
    waiting: RefCell<Slots<Waiting>>,
    stage: watch::Sender<Stage>,
}

/// A request that its handler has not answered.
struct Waiting {
    answer: oneshot::Sender<Answer>,
    since: Instant,
}

/// Takes a request off the list when its client hangs up.
struct Forget<'a> {
    http: &'a Http,
    handle: Handle,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.http.waiting.borrow_mut().remove(self.handle);
    }
}

/// Gives back a connection's place under `TINA4_WS_MAX_CONNECTIONS` if it never opened.
struct Reserved(Option<Rc<Context<Connection>>>);

impl Reserved {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Http {
    pub(crate) fn new(
        shard: usize,
        context: Rc<Context<Connection>>,
        hub: Rc<RefCell<Hub>>,
        routes: Arc<Routes>,
        files: StaticFiles,
        served: Served,
    ) -> Self {
        Self {
            shard,
            context,
            hub,
            routes,
            files,
            served,
            waiting: RefCell::new(Slots::new(shard)),
            stage: watch::Sender::new(Stage::Serving),
        }
    }

    pub(crate) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    pub(crate) fn set_stage(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    fn is_draining(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }

    /// Answers the request `handle`; does nothing if it is no longer waited for.
    pub(crate) fn respond(&self, handle: Handle, answer: Answer) {
        let waiting = self.waiting.borrow_mut().remove(handle);
        if let Some(waiting) = waiting {
            // An error says that the client hung up.
            let _ = waiting.answer.send(answer);
        }
    }

    /// Gives up on handlers that have not answered in time: their clients get 503.
    pub(crate) fn sweep(&self, now: Instant) {
        let timeout = self.context.config().handler_timeout;
        if timeout.is_zero() {
            return;
        }
        let late: Vec<Handle> = self
            .waiting
            .borrow()
            .iter()
            .filter(|(_, waiting)| now.duration_since(waiting.since) >= timeout)
            .map(|(handle, _)| handle)
            .collect();
        for handle in late {
            self.waiting.borrow_mut().remove(handle);
        }
    }

    /// Serves one socket until it is closed or upgraded.
    pub(crate) async fn serve_socket(self: Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let config = self.context.config();
        let asked = Rc::new(Cell::new(false));
        let service = {
            let (http, asked) = (Rc::clone(&self), Rc::clone(&asked));
            service_fn(move |request| {
                asked.set(true);
                let http = Rc::clone(&http);
                async move { Ok::<_, Infallible>(http.serve(request, peer.ip().to_canonical()).await) }
            })
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // It runs from the end of one request to the end of the next one's head, so it is the
            // keep-alive time; the first head has the shorter time below.
            .header_read_timeout(config.keep_alive_timeout)
            .max_headers(config.max_headers)
            .max_header_size(config.max_header_bytes)
            .max_buf_size(config.max_header_bytes.max(MIN_HTTP_BUFFER))
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut stage = self.stage.subscribe();
        if *stage.borrow_and_update() != Stage::Serving {
            return;
        }
        let mut first_head = pin!(tokio::time::sleep(config.header_timeout));
        loop {
            tokio::select! {
                biased;
                result = &mut connection => {
                    if let Err(error) = result {
                        self.context.log(LogLevel::Debug, format!("{peer}: {error}"));
                    }
                    break;
                }
                changed = stage.changed() => {
                    if changed.is_err() || *stage.borrow() == Stage::Ending {
                        break;
                    }
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut first_head, if !asked.get() => break,
            }
        }
    }

    async fn serve(self: Rc<Self>, mut request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let ip = client_ip(peer, request.headers(), &self.context.config().trusted_proxies);
        if upgrade::is_asked(request.headers()) {
            return match self.upgrade(&mut request, ip) {
                Ok(accept_key) => switching_protocols(&accept_key),
                Err(rejection) => self.reject(rejection),
            };
        }
        let Ok(path) = path::canonical(request.uri().path()) else {
            return bad_path(request.headers());
        };
        let path = path.into_owned();
        let found = self.routes.current().match_http(request.method(), &path);
        match found {
            Err(_) => bad_path(request.headers()),
            Ok(HttpMatch::Found { id, params }) => {
                self.ask_handler(request, path, id, params, ip).await
            }
            Ok(HttpMatch::MethodNotAllowed { allow }) if request.method() == Method::OPTIONS => {
                let mut response = empty(StatusCode::NO_CONTENT);
                insert(response.headers_mut(), header::ALLOW, &allow);
                response
            }
            Ok(other) => {
                if let Some(response) = self.without_handler(&request, &path).await {
                    return response;
                }
                match other {
                    HttpMatch::MethodNotAllowed { allow } => {
                        let message = format!("{path} takes {allow}");
                        let status = StatusCode::METHOD_NOT_ALLOWED;
                        let mut response = error(status, &message, request.headers());
                        insert(response.headers_mut(), header::ALLOW, &allow);
                        response
                    }
                    _ => {
                        let message = format!("there is nothing at {path}");
                        error(StatusCode::NOT_FOUND, &message, request.headers())
                    }
                }
            }
        }
    }

    /// Static files and `/health`.
    async fn without_handler(
        &self,
        request: &Request<Incoming>,
        path: &str,
    ) -> Option<Response<Body>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        match self.files.serve(request.method(), path, request.headers()).await {
            Ok(Some(response)) => return Some(response.map(Either::Right)),
            Ok(None) => {}
            Err(failure) => self.context.log(LogLevel::Error, failure.to_string()),
        }
        (path == "/health").then(|| {
            let body = serde_json::json!({
                "status": "ok",
                "version": self.served.version,
                "uptime": self.served.started.elapsed().as_secs(),
                "framework": "tina4-nodejs",
            });
            full(StatusCode::OK, JSON, body.to_string())
        })
    }

    async fn ask_handler(
        &self,
        request: Request<Incoming>,
        path: String,
        route: RouteId,
        params: Params,
        ip: IpAddr,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = match self.read_body(body).await {
            Ok(body) => body,
            Err(BodyError { status, message }) => {
                let mut response = error(status, message, &parts.headers);
                // The rest of the body is not worth reading.
                insert(response.headers_mut(), header::CONNECTION, "close");
                return response;
            }
        };
        let held = HeldBody::new(&self.context, body.len());
        let (sender, answer) = oneshot::channel();
        let slot = self
            .waiting
            .borrow_mut()
            .insert_with(|_| Waiting { answer: sender, since: Instant::now() });
        let Some(handle) = slot else {
            let message = "too many requests are waiting for their handlers";
            return error(StatusCode::SERVICE_UNAVAILABLE, message, &parts.headers);
        };
        let forget = Forget { http: self, handle };
        self.context.event(Event::Request(Box::new(event::Request {
            handle,
            route,
            method: parts.method.as_str().into(),
            target: parts.uri.path_and_query().map_or("/", |target| target.as_str()).into(),
            path,
            params,
            ip,
            head: Head::new(&parts.headers),
            body,
        })));
        let answer = answer.await;
        drop((forget, held));
        match answer {
            Ok(answer) => self.response(answer, &parts.method, &parts.headers).await,
            Err(_) => {
                let message = "the handler did not answer in time";
                error(StatusCode::SERVICE_UNAVAILABLE, message, &parts.headers)
            }
        }
    }

    async fn read_body(&self, mut body: Incoming) -> Result<Bytes, BodyError> {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        let limit = self.context.config().max_upload_size;
        let announced = body.size_hint().lower();
        if announced > limit as u64 {
            return Err(BodyError::TOO_LARGE);
        }
        if self.context.shared.is_over() {
            return Err(BodyError::NO_MEMORY);
        }
        let mut held = HeldBody::new(&self.context, 0);
        let mut first: Option<Bytes> = None;
        let mut all = BytesMut::new();
        let patience = self.context.config().keep_alive_timeout;
        loop {
            let frame = match tokio::time::timeout(patience, body.frame()).await {
                Err(_) => return Err(BodyError::TOO_SLOW),
                Ok(None) => break,
                Ok(Some(Err(_))) => return Err(BodyError::BROKEN),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if held.bytes + data.len() > limit {
                return Err(BodyError::TOO_LARGE);
            }
            held.add(data.len());
            match first.take() {
                None if all.is_empty() => first = Some(data),
                earlier => {
                    all.extend_from_slice(&earlier.unwrap_or_default());
                    all.extend_from_slice(&data);
                }
            }
        }
        Ok(first.unwrap_or_else(|| all.freeze()))
    }

    /// Turns a handler's answer into a response.
    async fn response(
        &self,
        answer: Answer,
        method: &Method,
        request_headers: &HeaderMap,
    ) -> Response<Body> {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
        let mut response = match answer.body {
            AnswerBody::Bytes(bytes) => Response::new(Either::Left(Full::new(bytes))),
            AnswerBody::File(path) => {
                // Only a plain 200 may become 304 or 206.
                let none = HeaderMap::new();
                let conditions = if status == StatusCode::OK { request_headers } else { &none };
                let base = &self.served.directory;
                match static_files::serve_file(method, base, &path, conditions).await {
                    Ok(Some(response)) => response.map(Either::Right),
                    Ok(None) => {
                        let message = "there is no such file";
                        return error(StatusCode::NOT_FOUND, message, request_headers);
                    }
                    Err(failure) => {
                        self.context.log(LogLevel::Error, failure.to_string());
                        let message = "the file could not be read";
                        return error(StatusCode::INTERNAL_SERVER_ERROR, message, request_headers);
                    }
                }
            }
        };
        if response.status() == StatusCode::OK {
            *response.status_mut() = status;
        }
        for (name, value) in &answer.headers {
            let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value))
            else {
                let message =
                    format!("the header {name:?} is not one HTTP allows; it was left out");
                self.context.log(LogLevel::Warning, message);
                continue;
            };
            match name {
                // hyper frames the body and knows its length.
                header::CONTENT_LENGTH | header::TRANSFER_ENCODING => {}
                header::SET_COOKIE => {
                    response.headers_mut().append(name, value);
                }
                _ => {
                    response.headers_mut().insert(name, value);
                }
            }
        }
        response
    }

    fn reject(&self, rejection: Rejection) -> Response<Body> {
        let counters = &self.context.shared.counters;
        counters.rejected_upgrades.fetch_add(1, Ordering::Relaxed);
        let mut response = full(rejection.status(), TEXT, format!("{rejection}\n"));
        if rejection == Rejection::UnsupportedVersion {
            insert(response.headers_mut(), header::SEC_WEBSOCKET_VERSION, "13");
        }
        if rejection == Rejection::MethodNotGet {
            insert(response.headers_mut(), header::ALLOW, "GET");
        }
        insert(response.headers_mut(), header::CONNECTION, "close");
        response
    }

    /// Checks the opening handshake and, once hyper lets go of the socket, opens the connection.
    fn upgrade(
        self: &Rc<Self>,
        request: &mut Request<Incoming>,
        ip: IpAddr,
    ) -> Result<String, Rejection> {
        if self.is_draining() {
            return Err(Rejection::ShuttingDown);
        }
        let path = path::canonical(request.uri().path()).map_err(|_| Rejection::BadPath)?;
        let routes = self.routes.current();
        let found = routes.match_websocket(&path).map_err(|_| Rejection::BadPath)?;
        let (route, params) = found.ok_or(Rejection::NotFound)?;
        let path = path.into_owned();
        let config = self.context.config();
        let accept_key =
            upgrade::check(request.method(), request.version(), request.headers(), config)?;
        let connections = &self.context.shared.connections;
        let reserved = Reserved(Some(Rc::clone(&self.context)));
        let before = connections.fetch_add(1, Ordering::Relaxed);
        if config.max_connections > 0 && before >= config.max_connections {
            return Err(Rejection::TooManyConnections);
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        let head = Head::new(request.headers());
        let upgraded = hyper::upgrade::on(request);
        let http = Rc::clone(self);
        // From now on, so that a shutdown waits for it.
        let load = Load::new(&self.context.shared, self.shard);
        tokio::task::spawn_local(async move {
            // An error says that the client hung up before it had our answer.
            let Ok(upgraded) = upgraded.await else { return };
            let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
                return;
            };
            let opening = Opening { route, path, params, query, ip, head };
            let stream = parts.io.into_inner();
            if let Some(connection) = http.open(opening, stream, &parts.read_buf, load) {
                reserved.keep();
                if http.is_draining() {
                    connection.close(close::GOING_AWAY, "the server is shutting down");
                }
                connection.run().await;
            }
        });
        Ok(accept_key)
    }

    fn open(
        &self,
        opening: Opening,
        stream: TcpStream,
        early: &[u8],
        load: Load,
    ) -> Option<Rc<Connection>> {
        let gauge = Arc::new(Gauge::default());
        let Opening { route, path, params, query, ip, head } = opening;
        let connection = self.hub.borrow_mut().add(|handle| {
            // Before the connection sees what the peer sent early: `open` comes first.
            self.context.event(Event::Open(Box::new(Opened {
                handle,
                route: route.id,
                id: format!("{:032x}", rand::random::<u128>()),
                path,
                params,
                query,
                ip,
                head,
                gauge: Arc::clone(&gauge),
            })));
            let context = Rc::clone(&self.context);
            Connection::new(
                handle,
                route.binary,
                gauge,
                Socket { stream, _load: load },
                early,
                context,
            )
        });
        if connection.is_none() {
            let message = "a shard has no slot left for a connection".to_owned();
            self.context.log(LogLevel::Error, message);
        }
        connection
    }
}

/// What is known of a connection before it exists.
struct Opening {
    route: WebSocketRoute,
    path: String,
    params: Params,
    query: String,
    ip: IpAddr,
    head: Head,
}

/// hyper's smallest read buffer, in bytes.
const MIN_HTTP_BUFFER: usize = 8 * 1024;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

struct BodyError {
    status: StatusCode,
    message: &'static str,
}

impl BodyError {
    const TOO_LARGE: Self =
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, message: "the body is over the size limit" };
    const NO_MEMORY: Self = Self {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message: "the server is out of buffer memory",
    };
    const TOO_SLOW: Self =
        Self { status: StatusCode::REQUEST_TIMEOUT, message: "the body arrives too slowly" };
    const BROKEN: Self =
        Self { status: StatusCode::BAD_REQUEST, message: "the body could not be read" };
}

/// A body counted by the meter for as long as it is held.
struct HeldBody<'a> {
    context: &'a Context<Connection>,
    bytes: usize,
}

impl<'a> HeldBody<'a> {
    fn new(context: &'a Context<Connection>, bytes: usize) -> Self {
        context.meter(bytes as isize);
        Self { context, bytes }
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.context.meter(bytes as isize);
    }
}

impl Drop for HeldBody<'_> {
    fn drop(&mut self) {
        self.context.meter(-(self.bytes as isize));
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn full(status: StatusCode, content_type: &str, body: String) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    insert(response.headers_mut(), header::CONTENT_TYPE, content_type);
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

fn switching_protocols(accept_key: &str) -> Response<Body> {
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    insert(headers, header::CONNECTION, "Upgrade");
    insert(headers, header::UPGRADE, "websocket");
    insert(headers, header::SEC_WEBSOCKET_ACCEPT, accept_key);
    response
}

fn bad_path(headers: &HeaderMap) -> Response<Body> {
    error(StatusCode::BAD_REQUEST, "the path has a bad escape", headers)
}

/// An error the engine answers by itself: a page for browsers, JSON for everyone else.
fn error(status: StatusCode, message: &str, request_headers: &HeaderMap) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or("Error");
    let wants_html = request_headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept.as_bytes().windows(9).any(|part| part == b"text/html"));
    if wants_html {
        let message = escape_html(message);
        let page = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{reason}</title>\
             <h1>{} {reason}</h1><p>{message}</p></html>\n",
            status.as_u16()
        );
        return full(status, HTML, page);
    }
    let body = serde_json::json!({
        "error": reason,
        "statusCode": status.as_u16(),
        "message": message,
    });
    full(status, JSON, body.to_string())
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The peer's address, or the last one in `X-Forwarded-For` that no trusted proxy added.
fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[crate::config::Network]) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|network| network.contains(ip));
    if !is_trusted(peer) {
        return peer;
    }
    let mut ip = peer;
    let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    for value in values.iter().rev() {
        let Ok(text) = value.to_str() else { return ip };
        for entry in text.rsplit(',') {
            let Ok(next) = entry.trim().parse::<IpAddr>() else {
                return ip;
            };
            ip = next.to_canonical();
            if !is_trusted(ip) {
                return ip;
            }
        }
    }
    ip
}
