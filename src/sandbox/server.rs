//! Starting and stopping a sandbox.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::{
    auth::App,
    control::SandboxControl,
    http,
    room::{DoorState, Room},
    settings::Settings,
    state::Limits,
};

/// How a sandbox starts.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Where it listens; port 0: any free port.
    pub listen: SocketAddr,
    /// The client apps it knows; at least one.
    pub apps: Vec<App>,
    /// How it behaves; what a reset comes back to.
    pub settings: Settings,
    /// How many frames, and how many items of history, are kept of each user, and how many
    /// requests of each kind.
    pub kept: usize,
    /// How many bytes may wait for a client that doesn't read; beyond it its connection is reset.
    pub max_queued: usize,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            apps: vec![App::default()],
            settings: Settings::default(),
            kept: 10_000,
            max_queued: 256 * 1024 * 1024,
        }
    }
}

/// Why a sandbox didn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be listened on.
    #[error("the sandbox can't listen on {address}: {source}; choose another address or port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No app was given.
    #[error("a sandbox needs at least one client app")]
    NoApp,
}

/// A running stand-in platform. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    room: Arc<Room>,
}

impl Sandbox {
    /// Starts a sandbox.
    pub async fn start(options: SandboxOptions) -> Result<Self, StartError> {
        if options.apps.is_empty() {
            return Err(StartError::NoApp);
        }
        let failed = |source| StartError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let limits = Limits { kept: options.kept, max_queued: options.max_queued };
        let room = Arc::new(Room::new(options.apps.into(), options.settings, limits));
        room.spawn(listen(room.clone(), listener, address));
        Ok(Self { address, room })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its API's base, `http://ADDRESS:PORT/`.
    pub fn url(&self) -> Url {
        Url::parse(&format!("http://{}/", self.address)).expect("an address makes a URL")
    }

    /// For watching it and meddling with it.
    pub fn control(&self) -> SandboxControl {
        SandboxControl::new(self.room.clone())
    }

    /// Drops all connections, stops listening, and waits until all is over.
    pub async fn shutdown(self) {
        self.room.stop.cancel();
        self.room.tasks.close();
        self.room.tasks.wait().await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.room.stop.cancel();
    }
}

async fn listen(room: Arc<Room>, listener: TcpListener, address: SocketAddr) {
    let router = http::router(room.clone());
    let mut wanted = room.door.wanted.subscribe();
    let mut listener = Some(listener);
    loop {
        let state = *wanted.borrow_and_update();
        match (&listener, state) {
            (Some(_), DoorState::Closed) => listener = None,
            (None, DoorState::Open) => listener = bind_again(address).await,
            _ => {}
        }
        room.door.is.send_replace(listener.as_ref().map_or(DoorState::Closed, |_| DoorState::Open));
        tokio::select! {
            // The room, which holds the sender, is held here.
            _ = wanted.changed() => {}
            accepted = accept(listener.as_ref()) => if let Some(tcp) = accepted {
                room.spawn(serve(router.clone(), tcp));
            },
        }
    }
}

/// The next connection; nothing ever comes without a listener.
async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    let Some(listener) = listener else { return std::future::pending().await };
    match listener.accept().await {
        Ok((tcp, _)) => Some(tcp),
        Err(error) => {
            tracing::warn!(%error, "the sandbox can't accept a connection");
            // Out of file descriptors, most likely: some may be closed soon.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn bind_again(address: SocketAddr) -> Option<TcpListener> {
    TcpListener::bind(address)
        .await
        .inspect_err(|error| tracing::error!(%address, %error, "the sandbox can't listen again"))
        .ok()
}

async fn serve(router: Router, tcp: TcpStream) {
    // Only latency is at stake.
    let _ = tcp.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(75))
        .serve_connection(TokioIo::new(tcp), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}
