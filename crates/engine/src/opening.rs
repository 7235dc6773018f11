//! From an upgrade request to an open connection.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use socket2::SockRef;

use crate::connection::{Agreed, Connection};
use crate::context::Context;
use crate::deflate::Window;
use crate::event::{Event, LogLevel, Opened};
use crate::hub::Hub;
use crate::lines;
use crate::outbox::Gauge;
use crate::path;
use crate::response::{Body, TEXT, full, insert};
use crate::router::{Params, WebSocketRoute};
use crate::routes::Routes;
use crate::shared::{Full, Load, Place};
use crate::socket::{Socket, prepare_websocket};
use crate::upgrade::{self, Accepted, Rejection};
use crate::wire::Wire;

/// Opens the connections of one shard.
pub(crate) struct Opener {
    pub(crate) context: Rc<Context<Connection>>,
    pub(crate) hub: Rc<RefCell<Hub>>,
    pub(crate) routes: Arc<Routes>,
}

/// What is known of a connection before it exists.
struct Opening {
    route: WebSocketRoute,
    path: String,
    params: Params,
    query: String,
    ip: IpAddr,
    protocol: Box<str>,
    window: Option<Window>,
    head: Box<str>,
}

impl Opener {
    pub(crate) fn reject(&self, rejection: Rejection) -> Response<Body> {
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
    pub(crate) fn upgrade(
        self: &Rc<Self>,
        request: &mut Request<Incoming>,
        ip: IpAddr,
    ) -> Result<Accepted, Rejection> {
        if self.context.is_draining() {
            return Err(Rejection::ShuttingDown);
        }
        let path = path::canonical(request.uri().path()).map_err(|_| Rejection::BadPath)?;
        let routes = self.routes.current();
        let found = routes.match_websocket(&path).map_err(|_| Rejection::BadPath)?;
        let (route, params) = found.ok_or(Rejection::NotFound)?;
        let path = path.into_owned();
        let config = self.context.config();
        let (method, version, headers) = (request.method(), request.version(), request.headers());
        let accepted = upgrade::check(method, version, headers, &route, config)?;
        let place = Place::take(&self.context.shared, ip).map_err(|full| match full {
            Full::Server => Rejection::TooManyConnections,
            Full::Address => Rejection::TooManyFromAddress,
        })?;
        let query = request.uri().query().unwrap_or_default().to_owned();
        let head = lines::of_headers(request.headers()).into_boxed_str();
        let protocol = accepted.protocol.clone().unwrap_or_default().into();
        let window = accepted.extension.map(|agreed| agreed.window);
        let upgraded = hyper::upgrade::on(request);
        let opener = Rc::clone(self);
        // From now on, so that a shutdown waits for it.
        let load = Load::new(&self.context.shared, self.context.shard);
        self.context.tasks.spawn(async move {
            // An error says that the client hung up before it had our answer.
            let Ok(upgraded) = upgraded.await else { return };
            let Ok(parts) = upgraded.downcast::<TokioIo<Wire>>() else {
                return;
            };
            let opening = Opening { route, path, params, query, ip, protocol, window, head };
            let stream = parts.io.into_inner().into_inner();
            prepare_websocket(SockRef::from(&stream), opener.context.config());
            let socket = Socket { stream, _load: load, _place: place };
            if let Some(connection) = opener.open(opening, socket, &parts.read_buf) {
                if let Some((code, reason)) = opener.context.farewell.get() {
                    connection.close(*code, reason);
                }
                // A task of its own, so that this one ends: it is larger, and holds hyper's buffer.
                opener.context.tasks.spawn(connection.run());
            }
        });
        Ok(accepted)
    }

    fn open(&self, opening: Opening, socket: Socket, early: &[u8]) -> Option<Rc<Connection>> {
        let gauge = Arc::new(Gauge::default());
        let Opening { route, path, params, query, ip, protocol, window, head } = opening;
        let agreed = Agreed { binary: route.binary, window };
        let id = rand::random::<u128>();
        let connection = self.hub.borrow_mut().add(|handle| {
            // Before the connection sees what the peer sent early: `open` comes first.
            self.context.event(Event::Open(Box::new(Opened {
                handle,
                route: route.id,
                id,
                path,
                params,
                query,
                ip,
                protocol,
                window,
                head,
                gauge: Arc::clone(&gauge),
            })));
            let context = Rc::clone(&self.context);
            Connection::new(handle, id, agreed, gauge, socket, early, context)
        });
        if connection.is_none() {
            let message = "a shard has no slot left for a connection".to_owned();
            self.context.log(LogLevel::Error, message);
        }
        connection
    }
}
