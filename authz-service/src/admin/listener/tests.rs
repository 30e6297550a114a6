use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use axum::serve::Listener as _;
use tokio::io::AsyncReadExt as _;

use super::*;

fn private_directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn the_socket_is_ours_alone_and_goes_with_us() {
    let directory = private_directory();
    let path = directory.path().join("admin.sock");
    let listener = AdminListener::bind(&path).unwrap();
    let about = fs::symlink_metadata(&path).unwrap();
    assert!(about.file_type().is_socket());
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_somebody_listens_on_is_never_taken() {
    let directory = private_directory();
    let path = directory.path().join("admin.sock");
    let _first = AdminListener::bind(&path).unwrap();
    assert!(matches!(AdminListener::bind(&path), Err(BindError::InUse(_))));
    assert!(path.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_file_is_not() {
    let directory = private_directory();
    let path = directory.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(AdminListener::bind(&path).unwrap());
    fs::write(&path, "mine").unwrap();
    assert!(matches!(AdminListener::bind(&path), Err(BindError::NotASocket(_))));
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[tokio::test]
async fn a_directory_that_everybody_may_write_to_is_refused() {
    let directory = private_directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = AdminListener::bind(&directory.path().join("admin.sock"));
    assert!(matches!(refused, Err(BindError::OpenDirectory(_))));
}

#[tokio::test]
async fn a_socket_that_took_our_place_is_left_alone() {
    let directory = private_directory();
    let path = directory.path().join("admin.sock");
    let first = AdminListener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _second = AdminListener::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
}

#[tokio::test]
async fn another_user_is_cut_off_before_a_byte_is_read() {
    let directory = private_directory();
    let path = directory.path().join("admin.sock");
    let mut listener = AdminListener::bind(&path).unwrap();
    let own = own_uid().unwrap();
    listener.allowed = [own + 1, own + 1];
    let accepting = tokio::spawn(async move { listener.accept().await });
    let mut stream = UnixStream::connect(&path).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "the connection is closed");
    assert!(!accepting.is_finished(), "and nobody was handed on");
    accepting.abort();
}

#[tokio::test]
async fn our_own_user_is_known_by_the_kernel() {
    let directory = private_directory();
    let path = directory.path().join("admin.sock");
    let mut listener = AdminListener::bind(&path).unwrap();
    let _stream = UnixStream::connect(&path).await.unwrap();
    let (_, operator) = listener.accept().await;
    assert_eq!(operator.uid, own_uid().unwrap());
    assert_eq!(operator.pid.map(i32::unsigned_abs), Some(std::process::id()));
}
