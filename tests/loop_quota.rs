//! Quotas as the Linux quota tools tell them: rpcbind and `rpc.rquotad` in a network of their own, asked about a file
//! system with quotas. Root only.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "lab/alone.rs"]
mod alone;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Stdio;
use testbox::net::quota::{Quota, QuotaClient, QuotaError, QuotaSubject};

/// Makes a file system whose files count for quotas, and waits for a line before it starts the portmapper, the service,
/// and ends.
///
/// The tools read and write quotas in files: a kernel that enforces them is not needed, and so the service calls them
/// inactive.
const SCENE: &str = "
set -eu
exec 3>&1 >&2
ip link set lo up
mount -t tmpfs tmpfs /run
mkdir /run/rpcbind /run/share
truncate -s 16M /run/image
mkfs.ext4 -q /run/image
mount -o loop,usrjquota=aquota.user,grpjquota=aquota.group,jqfmt=vfsv1 /run/image /run/share
head -c 307200 /dev/urandom >/run/share/file
chown 65534:65533 /run/share/file
sync
quotacheck -ugm /run/share
setquota -u 65534 1000 2000 0 0 /run/share
setquota -g 65533 0 3000 0 0 /run/share
echo made >&3
read -r _
rpcbind -w
timeout 20 sh -c 'until rpcinfo -p; do sleep 0.1; done'
echo rpcbind >&3
read -r _
rpc.rquotad --foreground --autofs --xtab /dev/null &
timeout 20 sh -c 'until rpcinfo -p | grep rquotad; do sleep 0.1; done'
echo rquotad >&3
read -r _
kill $!
wait $! || true
umount /run/share
";

#[test]
fn loop_quotas_are_those_that_the_quota_tools_have_set() {
    let mut holder = alone::alone()
        .args(["bash", "-c", SCENE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare of util-linux");
    let mut stdin = holder.stdin.take().unwrap();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
    // unshare itself is in the new network already.
    let network = format!("/proc/{}/ns/net", holder.id());
    let ask = move |network: File| {
        let inside = std::thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            [QuotaSubject::User(65534), QuotaSubject::Group(65533)]
                .map(|of| QuotaClient::new(Ipv4Addr::LOCALHOST).quota("/run/share", of))
        });
        inside.join().unwrap()
    };
    let mut phase = |name: &str| {
        assert_eq!(said.next().expect("it goes on").unwrap(), name);
        let answer = ask(File::open(&network).unwrap());
        stdin.write_all(b"go on\n").unwrap();
        answer
    };
    for silent in phase("made").map(Result::unwrap_err) {
        let refused = std::io::ErrorKind::ConnectionRefused;
        assert!(matches!(&silent, QuotaError::Silent { why, .. } if why.kind() == refused), "{silent}");
    }
    assert_eq!(phase("rpcbind").map(Result::unwrap), [None, None], "no such service");
    let quota = |of, hard: u64| Some(Quota { of, is_active: false, hard: Some(hard << 10), used: 300 << 10 });
    let set = [quota(QuotaSubject::User(65534), 2000), quota(QuotaSubject::Group(65533), 3000)];
    assert_eq!(phase("rquotad").map(Result::unwrap), set);
    assert!(holder.wait().unwrap().success(), "the scene ends well");
}
