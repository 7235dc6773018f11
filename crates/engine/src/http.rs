//! HTTP requests of one shard, through hyper: routes, static files, `/health` and upgrades.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::body::{self, BodyError, HeldBody};
use crate::client_ip::client_ip;
use crate::command::{Answer, AnswerBody};
use crate::connection::Connection;
use crate::context::{Context, Stage};
use crate::event::{self, Event, LogLevel};
use crate::framing;
use crate::held;
use crate::hub::Hub;
use crate::lines::Lines;
use crate::opening::Opener;
use crate::path;
use crate::response::{
    Body, JSON, bad_path, closing, emptied, empty, error, full, insert, out_of_memory,
    switching_protocols,
};
use crate::router::{HttpMatch, RouteId};
use crate::routes::Routes;
use crate::slots::Handle;
use crate::static_files::{self, StaticFiles};
use crate::traffic::{Traffic, Traffics};
use crate::upgrade;
use crate::waiting::Waiting;
use crate::wire::Wire;

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

/// hyper's smallest read buffer, in bytes.
const MIN_HTTP_BUFFER: usize = 8 * 1024;

/// Where the browser helper is served, and its other name, which is the same readable file.
const FROND: &str = "/js/frond.js";
const MINIFIED_FROND: &str = "/js/frond.min.js";

/// The requests of one shard.
pub(crate) struct Http {
    context: Rc<Context<Connection>>,
    opener: Rc<Opener>,
    routes: Arc<Routes>,
    files: StaticFiles,
    served: Served,
    waiting: Waiting,
    traffics: Traffics,
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
        let clock = &context.clock;
        Self {
            waiting: Waiting::new(shard, Arc::clone(&context.shared), Arc::clone(clock)),
            traffics: Traffics::new(shard, Arc::clone(clock)),
            opener: Rc::new(Opener {
                context: Rc::clone(&context),
                hub,
                routes: Arc::clone(&routes),
            }),
            context,
            routes,
            files,
            served,
        }
    }

    /// Answers the request `handle`; does nothing if it is no longer waited for.
    pub(crate) fn respond(&self, handle: Handle, answer: Answer) {
        self.waiting.respond(handle, answer);
    }

    /// Gives up on handlers and clients that take too long: a handler's client gets 503, a client's
    /// socket is closed.
    pub(crate) fn sweep(&self) {
        let config = self.context.config();
        self.waiting.sweep(config.handler_timeout);
        self.traffics.sweep(config);
    }

    /// Has every socket look at the stage.
    pub(crate) fn stage_changed(&self) {
        self.traffics.wake_all();
    }

    /// Serves one socket until it is closed or upgraded.
    pub(crate) async fn serve_socket(self: Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Some(listed) = self.traffics.add() else {
            let message = format!("{peer}: a shard has no slot left for a socket");
            return self.context.log(LogLevel::Error, message);
        };
        let traffic = &listed.traffic;
        let config = self.context.config();
        // hyper moves the future it gets: it is kept small, and what few requests need is boxed.
        let service = service_fn(|mut request| {
            traffic.begin();
            let (http, traffic) = (Rc::clone(&self), Arc::clone(traffic));
            async move {
                traffic.flushed().await;
                let response = http.serve(&mut request, peer.ip().to_canonical()).await;
                traffic.end(!request.body().is_end_stream());
                let response = response.map(|body| streamed(body, &traffic));
                let is_last = traffic.awaits_answer();
                Ok::<_, Infallible>(if is_last { closing(response) } else { response })
            }
        });
        // No timer of hyper's: the sweep looks at the traffic.
        let connection = http1::Builder::new()
            .max_headers(config.max_headers)
            .max_header_size(config.max_header_bytes)
            .max_buf_size(config.max_header_bytes.max(MIN_HTTP_BUFFER))
            .serve_connection(TokioIo::new(Wire::new(stream, Arc::clone(traffic))), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut stage = Stage::Serving;
        std::future::poll_fn(|task| {
            traffic.set_task(task.waker());
            if let Poll::Ready(result) = connection.as_mut().poll(task) {
                if let Err(error) = result {
                    self.context.log(LogLevel::Debug, format!("{peer}: {error}"));
                }
                return Poll::Ready(());
            }
            let now = *self.context.stage.borrow();
            if std::mem::replace(&mut stage, now) == now {
                return Poll::Pending;
            }
            // hyper would wait for a first request, which browsers may never send on the sockets they
            // open ahead.
            if now == Stage::Ending || !traffic.was_asked() {
                return Poll::Ready(());
            }
            connection.as_mut().graceful_shutdown();
            // It has to look at that.
            task.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    async fn serve(&self, request: &mut Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let asks_for_upgrade = upgrade::is_asked(request.headers());
        if let Err(flaw) = framing::check(request, asks_for_upgrade) {
            return closing(error(flaw.status(), flaw.message(), request.headers()));
        }
        let ip = client_ip(peer, request.headers(), &self.context.config().trusted_proxies);
        if asks_for_upgrade {
            return match self.opener.upgrade(request, ip) {
                Ok(accepted) => switching_protocols(&accepted),
                Err(rejection) => self.opener.reject(rejection),
            };
        }
        if request.uri().path() == "*" {
            // "Are you there?" (RFC 9110 section 9.3.7); `framing` lets no other method ask that.
            return empty(StatusCode::NO_CONTENT);
        }
        let Ok(path) = path::canonical(request.uri().path()) else {
            return bad_path(request.headers());
        };
        let found = self.routes.current().match_http(request.method(), &path);
        if self.context.is_lent.get() && !matches!(found, Ok(HttpMatch::Found { .. })) {
            self.context.shared.answered.fetch_add(1, Ordering::Relaxed);
        }
        match found {
            Err(_) => bad_path(request.headers()),
            Ok(HttpMatch::Found { id, params }) => {
                if self.context.shared.is_over() {
                    return out_of_memory(request.headers());
                }
                let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
                let (method, headers) = (request.method(), request.headers());
                let lines = Lines::of_request(method, target, &path, ip, &params, headers);
                self.ask_handler(request, id, lines).await
            }
            Ok(HttpMatch::MethodNotAllowed { allow }) if request.method() == Method::OPTIONS => {
                let mut response = empty(StatusCode::NO_CONTENT);
                insert(response.headers_mut(), header::ALLOW, &allow);
                response
            }
            Ok(other) => {
                if let Some(response) = Box::pin(self.without_handler(request, &path)).await {
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
        // One file under both names; an app's own file of either name comes first.
        let other_name = (path == MINIFIED_FROND).then_some(FROND);
        for name in [Some(path), other_name].into_iter().flatten() {
            match self
                .files
                .serve(request.method(), name, request.uri().query(), request.headers())
                .await
            {
                Ok(Some(response)) => return Some(self.counted_file(response, request.headers())),
                Ok(None) => {}
                Err(failure) => self.context.log(LogLevel::Error, failure.to_string()),
            }
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
        request: &mut Request<Incoming>,
        route: RouteId,
        lines: Lines,
    ) -> Response<Body> {
        let body = match body::read(request.body_mut(), &self.context).await {
            Ok(body) => body,
            Err(BodyError { status, message }) => {
                // The rest of the body is not worth reading.
                return closing(error(status, message, request.headers()));
            }
        };
        let held = HeldBody::new(&self.context, body.len());
        let Some(place) = self.waiting.add() else {
            let message = "too many requests are waiting for their handlers";
            return error(StatusCode::SERVICE_UNAVAILABLE, message, request.headers());
        };
        let handle = place.handle;
        self.context.event(Event::Request(Box::new(event::Request { handle, route, lines, body })));
        let answer = place.answer().await;
        drop((place, held));
        match answer {
            Some(answer) => self.response(answer, request).await,
            None => {
                let message = "the handler did not answer in time";
                error(StatusCode::SERVICE_UNAVAILABLE, message, request.headers())
            }
        }
    }

    fn counted_file(
        &self,
        response: Response<static_files::Body>,
        request_headers: &HeaderMap,
    ) -> Response<Body> {
        let (head, body) = response.into_parts();
        match held::file(&self.context.shared, body) {
            Some(body) => Response::from_parts(head, Either::Right(body)),
            None => out_of_memory(request_headers),
        }
    }

    /// Turns a handler's answer into a response.
    async fn response(&self, answer: Answer, request: &mut Request<Incoming>) -> Response<Body> {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
        match answer.body {
            AnswerBody::Bytes(bytes) => {
                let Some(bytes) = held::bytes(&self.context.shared, bytes) else {
                    return out_of_memory(request.headers());
                };
                let mut response = Response::new(Either::Left(Full::new(bytes)));
                *response.status_mut() = status;
                let mut headers = emptied(std::mem::take(request.headers_mut()));
                self.add_headers(&mut headers, &answer.headers);
                *response.headers_mut() = headers;
                response
            }
            AnswerBody::File(path) => {
                let (method, headers) = (request.method(), request.headers());
                let mut response = match Box::pin(self.file(&path, status, method, headers)).await {
                    Ok(response) => response,
                    Err(response) => return response,
                };
                if response.status() == StatusCode::OK {
                    *response.status_mut() = status;
                }
                // A handler's header replaces the engine's; one it repeats stays repeated.
                let mut own = HeaderMap::new();
                self.add_headers(&mut own, &answer.headers);
                response.headers_mut().extend(own);
                response
            }
        }
    }

    /// A file as a handler's answer, to which its headers come.
    ///
    /// # Errors
    /// The whole response, if there is none.
    async fn file(
        &self,
        path: &Path,
        status: StatusCode,
        method: &Method,
        request_headers: &HeaderMap,
    ) -> Result<Response<Body>, Response<Body>> {
        // Only a plain 200 may become 304 or 206.
        let none = HeaderMap::new();
        let conditions = if status == StatusCode::OK { request_headers } else { &none };
        let base = &self.served.directory;
        match static_files::serve_file(method, base, path, conditions).await {
            Ok(Some(response)) => Ok(self.counted_file(response, request_headers)),
            Ok(None) => {
                let message = "there is no such file";
                Err(error(StatusCode::NOT_FOUND, message, request_headers))
            }
            Err(failure) => {
                self.context.log(LogLevel::Error, failure.to_string());
                let message = "the file could not be read";
                Err(error(StatusCode::INTERNAL_SERVER_ERROR, message, request_headers))
            }
        }
    }

    /// Adds the headers of a handler's answer, of lines `name:value`.
    fn add_headers(&self, headers: &mut HeaderMap, lines: &Bytes) {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
            let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default());
            let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(name),
                HeaderValue::from_maybe_shared(lines.slice_ref(value)),
            ) else {
                let name = String::from_utf8_lossy(name);
                let message =
                    format!("the header {name:?} is not one HTTP allows; it was left out");
                self.context.log(LogLevel::Warning, message);
                continue;
            };
            // hyper frames the body and knows its length.
            if name != header::CONTENT_LENGTH && name != header::TRANSFER_ENCODING {
                headers.append(name, value);
            }
        }
    }
}

/// A body of which the traffic knows until when it is read.
fn streamed(body: Body, traffic: &Arc<Traffic>) -> Body {
    let Either::Right(file) = body else { return body };
    let streaming = traffic.stream();
    Either::Right(held::along(file, streaming))
}
