package keeper

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
)

// dnsAddr is where resolv.conf of a container leads.
var dnsAddr = netip.MustParseAddr("127.0.0.11")

// dnsPort is where the resolver listens, above the ports that Linux chooses from; where a container has it, the kernel chooses.
// It is always the same, so that a client's socket goes on working when the keeper is started again: the kernel translates what
// such a socket sends as it did for the first packet.
const dnsPort = 61053

// tableName names the rules in a container's namespace.
const tableName = "brig-dns"

// visitor is one thread that opens sockets in other namespaces, so that none has to be made for each. It comes back to the
// keeper's own after each visit: a thread that stays keeps a namespace alive.
type visitor struct {
	jobs chan func()
	done chan struct{}
}

func newVisitor() (*visitor, error) {
	v := &visitor{jobs: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go v.run(ready)
	if err := <-ready; err != nil {
		return nil, errs.Wrap(err, "open the keeper's own network namespace")
	}
	return v, nil
}

func (v *visitor) run(ready chan<- error) {
	defer close(v.done)
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	home, err := os.Open("/proc/thread-self/ns/net")
	ready <- err
	if err != nil {
		return
	}
	defer home.Close()
	for f := range v.jobs {
		f()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) != nil {
			panic("a thread can't return to its network namespace") // it would keep the container's alive for ever
		}
	}
}

func (v *visitor) close() {
	close(v.jobs)
	<-v.done
}

// visit runs f, which must not block, in the namespace.
func (v *visitor) visit(s *space, f func() error) error {
	result := make(chan error, 1)
	v.jobs <- func() {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- errs.Wrap(err, "enter network namespace %s", s.path)
			return
		}
		result <- f()
	}
	return <-result
}

// space is a container's network namespace.
type space struct {
	path     string
	file     *os.File
	dev, ino uint64
	visitor  *visitor
	ruled    bool // it has our rules
}

func openSpace(path string, v *visitor) (*space, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errs.Wrap(err, "open network namespace")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, errs.Wrap(err, "look at network namespace %s", path)
	}
	return &space{path: path, file: f, dev: st.Dev, ino: st.Ino, visitor: v}, nil
}

// current reports whether the path still leads to this namespace: a container that starts anew has another.
func (s *space) current() bool {
	var st unix.Stat_t
	return unix.Stat(s.path, &st) == nil && st.Dev == s.dev && st.Ino == s.ino
}

// close lets go of the namespace. Rules are removed from one that goes on, that of a container that has left its networks.
func (s *space) close() {
	if s.ruled && s.current() {
		if c, err := nftables.New(nftables.WithNetNSFd(int(s.file.Fd()))); err == nil {
			c.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName})
			_ = c.Flush() // the container may have done it
		}
	}
	s.file.Close()
}

// listen opens the resolver's sockets.
func (s *space) listen() (u *net.UDPConn, t *net.TCPListener, err error) {
	err = s.visitor.visit(s, func() (err error) {
		for _, port := range []uint16{dnsPort, 0} {
			if u, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(dnsAddr, port))); err == nil {
				break
			}
		}
		if err != nil {
			return err
		}
		for _, port := range []uint16{dnsPort, 0} {
			if t, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(dnsAddr, port))); err == nil {
				return nil
			}
		}
		u.Close()
		return err
	})
	return u, t, errs.Wrap(err, "listen for DNS in %s", s.path)
}

// redirect leads 127.0.0.11:53 to these ports. Connection tracking gives answers the address that was asked.
func (s *space) redirect(udp, tcp uint16) error {
	c, err := nftables.New(nftables.WithNetNSFd(int(s.file.Fd())))
	if err != nil {
		return errs.Wrap(err, "open nftables in %s", s.path)
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName}
	c.AddTable(t) // so that the deletion finds one
	c.DelTable(t)
	c.AddTable(t)
	out := c.AddChain(&nftables.Chain{Name: "output", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
	for _, r := range []struct {
		proto byte
		port  uint16
	}{{unix.IPPROTO_UDP, udp}, {unix.IPPROTO_TCP, tcp}} {
		const daddr, dport = 16, 2 // offsets in the IPv4 and the TCP or UDP header, in bytes
		c.AddRule(&nftables.Rule{Table: t, Chain: out, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: daddr, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: dnsAddr.AsSlice()},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{r.proto}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: dport, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(53)},
			&expr.Immediate{Register: 1, Data: dnsAddr.AsSlice()},
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(r.port)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
		}})
	}
	if err := c.Flush(); err != nil {
		return errs.Wrap(err, "redirect DNS in %s", s.path)
	}
	s.ruled = true
	return nil
}

// dial connects from within the namespace. Only the socket is made there: no thread waits for a server that is silent.
func (s *space) dial(ctx context.Context, network string, at netip.AddrPort) (c net.Conn, err error) {
	if network == "udp" {
		err = s.visitor.visit(s, func() (err error) {
			c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
			return err
		})
		return c, err
	}
	domain, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(at.Port()), Addr: unmapped4(at.Addr())})
	if at.Addr().Is6() {
		domain, addr = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	fd := -1
	err = s.visitor.visit(s, func() (err error) {
		fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "upstream")
	defer f.Close() // the connection has a descriptor of its own
	if err := connect(ctx, f, addr); err != nil {
		return nil, errs.Wrap(err, "connect to %s from %s", at, s.path)
	}
	return net.FileConn(f)
}

// connect connects a socket that doesn't block, and waits for it (connect(2), EINPROGRESS).
func connect(ctx context.Context, f *os.File, addr unix.Sockaddr) error {
	defer context.AfterFunc(ctx, func() { f.SetDeadline(time.Unix(1, 0)) })()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	asked := false
	waited := raw.Write(func(fd uintptr) (done bool) {
		if !asked {
			asked, err = true, unix.Connect(int(fd), addr)
			return err != unix.EINPROGRESS
		}
		var failed int
		if failed, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && failed != 0 {
			err = unix.Errno(failed)
		}
		if err == nil {
			_, e := unix.Getpeername(int(fd))
			return e == nil // else it was woken too early
		}
		return true
	})
	if waited != nil {
		return waited
	}
	return err
}
