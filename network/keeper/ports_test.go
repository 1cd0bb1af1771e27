package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// tcpServer answers each connection: what it has read until the client's end, after its name.
func tcpServer(t testing.TB, name, at string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.WriteString(c, name+":")
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// say sends text, ends its side, and returns all that comes back. It reads meanwhile: who only writes waits for ever once the buffers of both
// directions are full, which hold less than a MiB on FreeBSD.
func say(at, text string) (string, error) {
	c, err := net.DialTimeout("tcp", at, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, text)
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	b, err := io.ReadAll(c)
	if err == nil {
		err = <-sent
	}
	return string(b), err
}

func open1(t testing.TB, p Port) *port {
	t.Helper()
	o, err := openPort(p, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	return o
}

var local4, local6, any6 = netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("::")

func TestRelaysTCP(t *testing.T) {
	to := tcpServer(t, "a", "127.0.0.1:0")
	long := strings.Repeat("0123456789abcdef", 1<<16) // more than all buffers on the way
	for _, host := range []netip.Addr{local4, local6, any6} {
		p := open1(t, Port{Proto: "tcp", HostIP: host, To: to})
		at := netip.AddrPortFrom(host, p.want.HostPort)
		if host == any6 {
			at = netip.AddrPortFrom(local6, p.want.HostPort)
			if c, err := net.Dial("tcp4", netip.AddrPortFrom(local4, at.Port()).String()); err == nil {
				c.Close()
				t.Error("the IPv6 port takes IPv4 connections")
			}
		}
		for _, s := range []string{"", "x", long} {
			if got, err := say(at.String(), s); err != nil || got != "a:"+s {
				t.Errorf("%s: %d bytes for %d, %v", host, len(got), len(s), err)
			}
		}
	}
}

// The server may end its side first, and go on reading.
func TestRelaysTheServersEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	read := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(c)
		read <- string(b)
	}()
	p := open1(t, Port{Proto: "tcp", HostIP: local4, To: l.Addr().(*net.TCPAddr).AddrPort()})
	c, err := net.Dial("tcp", p.want.key().at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Fatal(b, err)
	}
	io.WriteString(c, "after")
	c.Close()
	if got := <-read; got != "after" {
		t.Errorf("the server got %q", got)
	}
}

func TestRefusedTargetsAreRefused(t *testing.T) {
	p := open1(t, Port{Proto: "tcp", HostIP: local4, To: freeAddr(t)})
	if got, err := say(p.want.key().at.String(), "x"); err == nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
}

// Connections keep their target; new ones get the new one; those of a port that goes end.
func TestTargetChanges(t *testing.T) {
	a, b := tcpServer(t, "a", "127.0.0.1:0"), tcpServer(t, "b", "127.0.0.1:0")
	p := open1(t, Port{Proto: "tcp", HostIP: local4, To: a})
	at := p.want.key().at.String()
	old, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	old.SetDeadline(time.Now().Add(30 * time.Second))
	head := make([]byte, 2)
	if _, err := io.ReadFull(old, head); err != nil {
		t.Fatal(err)
	}
	if err := p.aim(b); err != nil {
		t.Fatal(err)
	}
	if got, err := say(at, "new"); got != "b:new" {
		t.Errorf("after the change: %q, %v", got, err)
	}
	io.WriteString(old, "still")
	still := make([]byte, 5)
	if _, err := io.ReadFull(old, still); err != nil || string(still) != "still" {
		t.Errorf("the old connection: %q, %v", still, err)
	}
	if err := p.aim(netip.AddrPort{}); err != nil {
		t.Fatal(err)
	}
	if got, err := say(at, "none"); err == nil {
		t.Errorf("without a target: %q", got)
	}
	if l, err := net.Listen("tcp", at); err == nil {
		l.Close()
		t.Error("without a target the port is free")
	}
	p.close()
	if n, err := old.Read(still); err == nil {
		t.Errorf("the port's connection goes on: %q", still[:n])
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal("the port is not free:", err)
	}
	l.Close()
}

// A port that is held is not listened on, cannot be had, and becomes a relay without being free in between.
func TestHeldPorts(t *testing.T) {
	to := tcpServer(t, "a", "127.0.0.1:0")
	for _, proto := range []string{"tcp", "udp"} {
		p := open1(t, Port{Proto: proto, HostIP: local4})
		at := p.want.key().at.String()
		if _, err := openPort(p.want, quiet); !errors.Is(err, syscall.EADDRINUSE) || errs.KindOf(err) != errs.Internal || err.Error() != "failed to bind port "+at+"/"+proto+": address already in use" {
			t.Errorf("%s: bound twice: %v", proto, err)
		}
		if _, err := openPort(Port{Proto: proto, HostIP: netip.IPv4Unspecified(), HostPort: p.want.HostPort}, quiet); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: bound on all addresses too: %v", proto, err)
		}
		if proto == "udp" {
			continue
		}
		if got, err := say(at, "x"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %q, %v", proto, got, err)
		}
		if err := p.aim(to); err != nil {
			t.Fatal(err)
		}
		if got, err := say(at, "x"); got != "a:x" {
			t.Errorf("%q, %v", got, err)
		}
	}
	for _, p := range []Port{{Proto: "sctp", HostIP: local4}, {Proto: "tcp"}} {
		if _, err := openPort(p, quiet); !errs.Is(err, errs.NotImplemented) && !errs.Is(err, errs.Invalid) {
			t.Errorf("%v: %v", p, err)
		}
	}
}

// A server that has just stopped leaves connections in TIME_WAIT: its port can be held all the same, and nobody else gets it.
func TestPortOfAServerThatStopped(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Close() // first: its side waits
	io.ReadAll(c)
	c.Close()
	l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if fd, _, err := bindTCP(at, false); err == nil {
		syscall.Close(fd)
		t.Fatal("the test made no connection that waits")
	}
	open1(t, Port{Proto: "tcp", HostIP: at.Addr(), HostPort: at.Port()})
	if got, err := say(at.String(), "x"); err == nil {
		t.Errorf("somebody answers: %q", got)
	}
	if l, err := net.Listen("tcp", at.String()); err == nil {
		l.Close()
		t.Error("another program gets the port")
	}
}

// udpServer sends back what comes, after its name and the client's port as it sees it.
func udpServer(t testing.TB, name string) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local4, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			c.WriteToUDPAddrPort(fmt.Appendf(nil, "%s:%d:%s", name, from.Port(), buf[:n]), from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// sayUDP sends text until an answer to it comes, and returns what is before it.
func sayUDP(t testing.TB, c net.Conn, text string) (head string) {
	t.Helper()
	buf := make([]byte, 64<<10)
	eventually(t, "an answer by UDP", func() error {
		c.Write([]byte(text))
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Read(buf)
		if err == nil && !bytes.HasSuffix(buf[:n], []byte(text)) {
			return fmt.Errorf("%q", buf[:n])
		}
		head = string(buf[:max(0, n-len(text))])
		return err
	})
	return head
}

func TestRelaysUDP(t *testing.T) {
	a, b := udpServer(t, "a"), udpServer(t, "b")
	for _, host := range []netip.Addr{local4, local6, any6, netip.IPv4Unspecified()} {
		p := open1(t, Port{Proto: "udp", HostIP: host, To: a})
		dial := func(to netip.Addr) net.Conn {
			c, err := net.Dial("udp", netip.AddrPortFrom(to, p.want.HostPort).String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
		to := host
		switch host {
		case any6:
			to = local6
		case netip.IPv4Unspecified():
			to = furtherAddr(t) // a connected client takes answers from the address that it asked alone
		}
		one, two := dial(to), dial(to)
		first, second := sayUDP(t, one, "x"), sayUDP(t, two, "y")
		if first == second || !strings.HasPrefix(first, "a:") {
			t.Errorf("%s: two clients are %q and %q", host, first, second)
		}
		if again := sayUDP(t, one, strings.Repeat("z", 9000)); again != first {
			t.Errorf("%s: a client is %q, then %q", host, first, again)
		}
		if err := p.aim(b); err != nil {
			t.Fatal(err)
		}
		if got := sayUDP(t, one, "new"); !strings.HasPrefix(got, "b:") {
			t.Errorf("%s: after the change: %q", host, got)
		}
	}
}

// furtherAddr is an address of this host that its answers don't come from unless they are made to. All of 127.0.0.0/8 is Linux's; elsewhere
// it is the last one that an interface has.
func furtherAddr(t testing.TB) netip.Addr {
	if runtime.GOOS == "linux" {
		return netip.MustParseAddr("127.0.0.7")
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	last := local4
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			last = p.Addr()
		}
	}
	return last
}

func TestSessionsEnd(t *testing.T) {
	a := udpServer(t, "a")
	p := open1(t, Port{Proto: "udp", HostIP: local4})
	p.udp.idle = 50 * time.Millisecond
	p.aim(a)
	left := func(n int) func() error {
		return func() error {
			p.udp.mu.Lock()
			defer p.udp.mu.Unlock()
			if len(p.udp.sessions) != n {
				return fmt.Errorf("%d sessions", len(p.udp.sessions))
			}
			return nil
		}
	}
	for range 3 {
		c, err := net.Dial("udp", p.want.key().at.String())
		if err != nil {
			t.Fatal(err)
		}
		sayUDP(t, c, "x")
		c.Close()
	}
	eventually(t, "idle sessions end", left(0))
	// A target that refuses ends the session, so that the next datagram tries anew.
	p.udp.idle = time.Hour
	p.aim(freeAddr(t))
	c, err := net.Dial("udp", p.want.key().at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("x"))
	eventually(t, "a refused session ends", left(0))
	p.aim(a)
	sayUDP(t, c, "y")
	// There are at most so many.
	var many []net.Conn
	for range maxSessions + 50 {
		c, err := net.Dial("udp", p.want.key().at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		many = append(many, c)
	}
	eventually(t, "all places are taken", func() error {
		for _, c := range many { // datagrams get lost
			c.Write([]byte("z"))
		}
		return left(maxSessions)()
	})
}
