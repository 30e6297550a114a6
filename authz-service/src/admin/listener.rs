//! The admin socket: 0600, in a directory that nobody else may write to, and open only to the service's own user and root.
//!
//! A second service never takes the socket of one that still listens.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::{UnixListener, UnixStream};

use super::{Operations, Operator, router};

/// The admin socket of this service; its file goes when this is dropped.
#[derive(Debug)]
pub struct AdminListener {
    socket: UnixListener,
    path: PathBuf,
    inode: u64,
    allowed: [u32; 2],
}

/// Why the admin socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else could put another socket in its place.
    #[error("directory `{0}` of the admin socket is writable for everybody: chmod o-w")]
    OpenDirectory(PathBuf),
    /// Its owner could put another socket in its place.
    #[error("directory `{0}` of the admin socket belongs to uid {1}, neither this service's user nor root")]
    ForeignDirectory(PathBuf, u32),
    /// Something that is no socket is in the way, and it is not ours to remove.
    #[error("`{0}` exists and is no socket")]
    NotASocket(PathBuf),
    /// Another service answers there.
    #[error("another service listens on `{0}`")]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot open the admin socket `{0}`: {1}")]
    Io(PathBuf, io::Error),
}

/// Serves the admin API until `stop` is done; requests under way are finished.
///
/// # Errors
/// What axum's server says; accepting is tried again for ever.
pub async fn serve<O: Operations>(
    listener: AdminListener,
    operations: Arc<O>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let service = router::router(operations).into_make_service_with_connect_info::<Operator>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

impl AdminListener {
    /// Opens the socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`BindError`]; a socket that nobody listens on is removed first.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let io = |error| BindError::Io(path.to_owned(), error);
        let own = own_uid().map_err(io)?;
        check_directory(path, own)?;
        remove_stale(path)?;
        let socket = UnixListener::bind(path).map_err(io)?;
        // Between bind and chmod the umask alone rules; who connects then still has to pass the check of its uid.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io)?;
        let inode = fs::symlink_metadata(path).map_err(io)?.ino();
        Ok(Self { socket, path: path.to_owned(), inode, allowed: [own, 0] })
    }

    /// Who connected, if they may operate.
    fn admit(&self, stream: &UnixStream) -> Option<Operator> {
        let peer = stream.peer_cred().ok()?;
        if !self.allowed.contains(&peer.uid()) {
            tracing::warn!(uid = peer.uid(), pid = peer.pid(), "admin connection refused");
            return None;
        }
        Some(Operator { uid: peer.uid(), pid: peer.pid() })
    }
}

impl axum::serve::Listener for AdminListener {
    type Io = UnixStream;
    type Addr = Operator;

    async fn accept(&mut self) -> (UnixStream, Operator) {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    if let Some(operator) = self.admit(&stream) {
                        return (stream, operator);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept on the admin socket");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Operator> {
        Ok(Operator { uid: own_uid()?, pid: None })
    }
}

impl Connected<IncomingStream<'_, AdminListener>> for Operator {
    fn connect_info(stream: IncomingStream<'_, AdminListener>) -> Self {
        *stream.remote_addr()
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        // Another service may have its socket there by now.
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The kernel's word for who we are: the peer of our own socket pair.
fn own_uid() -> io::Result<u32> {
    Ok(UnixStream::pair()?.0.peer_cred()?.uid())
}

fn check_directory(path: &Path, own: u32) -> Result<(), BindError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let about = fs::metadata(directory).map_err(|error| BindError::Io(path.to_owned(), error))?;
    if about.mode() & 0o002 != 0 {
        return Err(BindError::OpenDirectory(directory.to_owned()));
    }
    if ![own, 0].contains(&about.uid()) {
        return Err(BindError::ForeignDirectory(directory.to_owned(), about.uid()));
    }
    Ok(())
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let io = |error| BindError::Io(path.to_owned(), error);
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    if !there.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(io),
        Err(error) => Err(io(error)),
    }
}

#[cfg(test)]
mod tests;
