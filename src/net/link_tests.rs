//! What leaves at once, and what waits for its turn.

use super::*;
use tokio::net::TcpListener;

const TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_message_leaves_at_once_unless_something_is_before_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stream = Arc::new(TcpStream::connect(addr).await.unwrap());
    let _peer = listener.accept().await.unwrap();
    let stats = Arc::<Stats>::default();
    let link = Link::<()>::new(MemberId(1), addr, NetLimits::default(), Arc::clone(&stats));
    let link = Arc::new(link);
    link.open(1, &stream);
    let message = link.encode_message(&1_u32).unwrap();
    let written = || stats.bytes_out.load(Ordering::Relaxed);
    let mut out = OutBuf::default();

    link.send(&message).unwrap();
    assert_eq!(written(), message.len() as u64, "nothing was before it");
    let _alone = link.request(&2_u32, TIMEOUT);
    let before = written();
    assert!(before > message.len() as u64, "nor before the request");

    let _beside = link.request(&3_u32, TIMEOUT);
    link.send(&message).unwrap();
    assert_eq!(written(), before, "both are queued: in their order");
    link.take(&mut out);
    assert!(out.len() > message.len());
    link.send(&message).unwrap();
    assert_eq!(written(), before, "those are still to be written");
    let mut rest = OutBuf::default();
    link.take(&mut rest);
    assert_eq!(rest.len(), message.len());
    link.take(&mut OutBuf::default());
    link.send(&message).unwrap();
    assert_eq!(written(), before + message.len() as u64, "all is written");
}
