package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/survivor"
)

// within runs f in the network namespace.
func within(t testing.TB, path string, f func() error) error {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		result <- func() error {
			ns, err := os.Open(path)
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			return f()
		}()
	}()
	return <-result
}

// netns makes a network namespace with its loopback up, bound to the file.
func netns(t testing.TB, path string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		result <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(lo); err != nil {
				return err
			}
			return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}()
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dropNetns(path) })
}

func dropNetns(path string) {
	unix.Unmount(path, unix.MNT_DETACH)
	os.Remove(path)
}

// inNetns is a resolver of the namespace that knows one name.
func inNetns(path, name, addr string) State {
	s := oneName(netip.AddrPort{}, name, addr)
	s.Resolvers[0].Listen, s.Resolvers[0].Netns = nil, path
	return s
}

const inside = "127.0.0.11:53"

// lookupIn is lookup within the namespace, by both protocols, which must agree.
func lookupIn(t testing.TB, path, name string) (got string) {
	t.Helper()
	err := within(t, path, func() error {
		got = lookup(inside, name)
		r, err := exchange("tcp", inside, name, dns.TypeA)
		if err != nil {
			return err
		}
		if byTCP := text(r); byTCP != got {
			return errors.New("by UDP " + got + ", by TCP " + byTCP)
		}
		return nil
	})
	if err != nil {
		return got + " " + err.Error()
	}
	return got
}

func TestNamesInNamespaces(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	netns(t, a)
	netns(t, b)
	c := open(t, filepath.Join(dir, "k"))
	s := State{
		Resolvers: []Resolver{{Container: "a", Netns: a, Networks: []string{"n1"}}, {Container: "b", Netns: b, Networks: []string{"n2"}}},
		Networks:  []Zone{{"n1", "one", []Name{{"web", addrs("10.1.0.1")}}}, {"n2", "two", []Name{{"web", addrs("10.2.0.1")}}}},
	}
	if err := c.Set(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for path, addr := range map[string]string{a: "10.1.0.1", b: "10.2.0.1"} {
		if got := lookupIn(t, path, "web"); got != addr {
			t.Errorf("%s: %q, not %s", path, got, addr)
		}
	}
	// What people have in containers: busybox, whose nslookup asks the server that it is given.
	err := within(t, a, func() error {
		out, err := exec.Command("busybox", "nslookup", "web.one", "127.0.0.11").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "10.1.0.1") {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Error("busybox nslookup:", err)
	}
	// A container may have a DNS server of its own on all addresses.
	err = within(t, a, func() error {
		u, err := net.ListenPacket("udp4", "0.0.0.0:53")
		if err != nil {
			return err
		}
		defer u.Close()
		l, err := net.Listen("tcp4", "0.0.0.0:53")
		if err != nil {
			return err
		}
		return l.Close()
	})
	if err != nil {
		t.Error("a container's own DNS server:", err)
	}
	// One that leaves its networks and goes on has nothing of ours left.
	s.Resolvers = s.Resolvers[1:]
	if err := c.Set(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	err = within(t, a, func() error {
		out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
		if err != nil || len(out) > 0 {
			return fmt.Errorf("rules are left: %w: %s", err, out)
		}
		b, err := os.ReadFile("/proc/thread-self/net/udp")
		if n := strings.Count(string(b), "\n"); n != 1 {
			return fmt.Errorf("sockets are left: %w: %s", err, b)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if got := lookupIn(t, b, "web"); got != "10.2.0.1" {
		t.Errorf("the other container: %q", got)
	}
}

// A client's socket keeps the translation of its first packet: it must go on working with the next keeper.
func TestClientsSocketsSurviveTheKeeper(t *testing.T) {
	dir := t.TempDir()
	ns := filepath.Join(dir, "ns")
	netns(t, ns)
	c := open(t, filepath.Join(dir, "k"))
	if err := c.Set(t.Context(), inNetns(ns, "web", "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	var conn *dns.Conn
	err := within(t, ns, func() (err error) { conn, err = dns.Dial("udp", inside); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m := new(dns.Msg).SetQuestion("web.", dns.TypeA)
	ask := func() error {
		conn.SetDeadline(time.Now().Add(time.Second))
		if err := conn.WriteMsg(m); err != nil {
			return err
		}
		_, err := conn.ReadMsg()
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(c.proc.Holder(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the same socket gets answers", ask)
}

// Container IDs stay when a container starts anew; its namespace doesn't, though the path is the same.
func TestNewNamespaceAtTheSamePath(t *testing.T) {
	dir := t.TempDir()
	ns := filepath.Join(dir, "ns")
	c := open(t, filepath.Join(dir, "k"))
	for range 3 {
		netns(t, ns)
		if err := c.Set(t.Context(), inNetns(ns, "web", "10.0.0.1")); err != nil {
			t.Fatal(err)
		}
		if got := lookupIn(t, ns, "web"); got != "10.0.0.1" {
			t.Fatalf("got %q", got)
		}
		dropNetns(ns)
	}
}

func TestRestIsServedWhenANamespaceIsMissing(t *testing.T) {
	dir := t.TempDir()
	ns := filepath.Join(dir, "ns")
	netns(t, ns)
	c := open(t, filepath.Join(dir, "k"))
	s := inNetns(ns, "web", "10.0.0.1")
	s.Resolvers = append(s.Resolvers, Resolver{Container: "gone", Netns: filepath.Join(dir, "none")})
	if err := c.Set(t.Context(), s); err == nil || !strings.Contains(err.Error(), "gone") || !strings.Contains(err.Error(), "none") {
		t.Errorf("a missing namespace: %v", err)
	}
	if got := lookupIn(t, ns, "web"); got != "10.0.0.1" {
		t.Errorf("the other container: %q", got)
	}
}

// upstream is a DNS server in a namespace, or here, that answers everything with addr.
func upstream(t testing.TB, path, at, addr string) {
	t.Helper()
	s := &dns.Server{Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		rr, _ := dns.NewRR(m.Question[0].Name + " 5 IN A " + addr)
		r.Answer = append(r.Answer, rr)
		w.WriteMsg(r)
	})}
	listen := func() (err error) { s.PacketConn, err = net.ListenPacket("udp", at); return err }
	listenTCP := func() (err error) {
		s2 := &dns.Server{Handler: s.Handler}
		s2.Listener, err = net.Listen("tcp", at)
		go s2.ActivateAndServe()
		t.Cleanup(func() { s2.Shutdown() })
		return err
	}
	for _, f := range []func() error{listen, listenTCP} {
		err := f
		if path != "" {
			if e := within(t, path, err); e != nil {
				t.Fatal(e)
			}
		} else if e := f(); e != nil {
			t.Fatal(e)
		}
	}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
}

// fullServer listens in the namespace with a full queue: more connections are neither taken nor refused.
func fullServer(t testing.TB, path string) (port uint16) {
	t.Helper()
	err := within(t, path, func() error {
		fd, at, err := bindTCP(netip.AddrPortFrom(local4, 0), false)
		if err != nil {
			return err
		}
		port = at
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.Listen(fd, 0); err != nil {
			return err
		}
		for {
			c, err := net.DialTimeout("tcp", netip.AddrPortFrom(local4, at).String(), 300*time.Millisecond)
			if err != nil {
				return nil
			}
			t.Cleanup(func() { c.Close() })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// The same address is asked in the container's namespace or in the host's.
func TestServersAreAskedWhereTheyAre(t *testing.T) {
	dir := t.TempDir()
	ns := filepath.Join(dir, "ns")
	netns(t, ns)
	at := freeAddr(t).String()
	upstream(t, ns, at, "10.9.0.1")
	upstream(t, "", at, "10.9.0.2")
	c := open(t, filepath.Join(dir, "k"))
	s := inNetns(ns, "web", "10.0.0.1")
	r := &s.Resolvers[0]
	r.Servers = []string{"127.0.0.11", at} // the first is itself, and left out
	for _, host := range []bool{false, true} {
		r.FromHost = []bool{false, host}
		if err := c.Set(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{false: "10.9.0.1", true: "10.9.0.2"}[host]
		if got := lookupIn(t, ns, "elsewhere.example"); got != want {
			t.Errorf("from host %v: %q, not %s", host, got, want)
		}
	}
	// Over IPv6, refused, and by a server that takes no connections.
	six := "[::1]:" + strconv.Itoa(int(netip.MustParseAddrPort(at).Port()))
	upstream(t, ns, six, "10.9.0.6")
	full := "127.0.0.1:" + strconv.Itoa(int(fullServer(t, ns)))
	k := c
	for _, c := range []struct{ servers, want string }{{six, "10.9.0.6"}, {"127.0.0.1:1 " + six, "10.9.0.6"}, {full + " " + six, "10.9.0.6"}, {"127.0.0.1:1", "SERVFAIL"}} {
		r.Servers, r.FromHost = strings.Fields(c.servers), nil
		if err := k.Set(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if got := lookupIn(t, ns, "elsewhere.example"); got != c.want {
			t.Errorf("servers %s: %q, not %s", c.servers, got, c.want)
		}
	}
	r.Internal = true
	if err := c.Set(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got := lookupIn(t, ns, "elsewhere.example"); got != "SERVFAIL" {
		t.Errorf("in an internal network: %q", got)
	}
}

// spaces counts the namespaces that threads or descriptors of a process hold, without its own.
func spaces(t *testing.T, pid int) int {
	t.Helper()
	var own unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/ns/net", &own); err != nil {
		t.Fatal(err)
	}
	found := map[uint64]bool{}
	for _, pattern := range []string{"task/*/ns/net", "fd/*"} {
		links, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/" + pattern)
		for _, l := range links {
			var st unix.Stat_t
			if unix.Stat(l, &st) == nil && st.Dev == own.Dev && st.Ino != own.Ino {
				found[st.Ino] = true
			}
		}
	}
	return len(found)
}

// After many states nothing is left of those before.
func TestNothingGrows(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for i := range 8 {
		paths = append(paths, filepath.Join(dir, "ns"+strconv.Itoa(i)))
		netns(t, paths[i])
	}
	relayed := freeAddr(t)
	c := open(t, filepath.Join(dir, "k"))
	state := func(n int) State {
		var s State
		for i := range n {
			s.Resolvers = append(s.Resolvers, Resolver{Container: strconv.Itoa(i), Netns: paths[i], Networks: []string{"n"}, Servers: []string{"127.0.0.1:9"}})
			s.Ports = append(s.Ports, Port{Proto: "udp", HostIP: relayed.Addr(), HostPort: relayed.Port(), To: netip.MustParseAddrPort("127.0.0.1:9")})[:1]
		}
		s.Networks = []Zone{{"n", "net", []Name{{"web", addrs("10.0.0." + strconv.Itoa(n+1))}}}}
		return s
	}
	round := func() {
		for _, n := range []int{8, 3, 1, 5} {
			if err := c.Set(t.Context(), state(n)); err != nil {
				t.Fatal(err)
			}
			if got := lookupIn(t, paths[0], "web"); got != "10.0.0."+strconv.Itoa(n+1) {
				t.Fatalf("got %q", got)
			}
			if got := lookupIn(t, paths[0], "a.b"); got != "SERVFAIL" {
				t.Fatalf("got %q", got)
			}
		}
		if err := c.Set(t.Context(), state(1)); err != nil {
			t.Fatal(err)
		}
	}
	round()
	pid := c.proc.Holder()
	threads := func() int { d, _ := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task"); return len(d) }
	before, threadsBefore := descriptors(t, pid), threads()
	for range 25 {
		round()
	}
	eventually(t, "descriptors as at first", func() error {
		if n := descriptors(t, pid); n > before {
			return fmt.Errorf("%d, not %d", n, before)
		}
		return nil
	})
	if n := threads(); n > threadsBefore+16 {
		t.Errorf("%d threads, before %d", n, threadsBefore)
	}
	if pid != c.proc.Holder() {
		t.Error("the keeper was started again meanwhile")
	}
	if n := spaces(t, pid); n != 1 {
		t.Errorf("it holds %d namespaces; one is served", n)
	}
}

// With an empty state the process ends by itself and leaves its lock and log alone; with a client gone it does so at once.
func TestKeeperEndsWithItsState(t *testing.T) {
	dir := t.TempDir()
	ns, k := filepath.Join(dir, "ns"), filepath.Join(dir, "k")
	netns(t, ns)
	c := open(t, k)
	for range 2 {
		if err := c.Set(t.Context(), inNetns(ns, "web", "10.0.0.1")); err != nil {
			t.Fatal(err)
		}
		pid := c.proc.Holder()
		if err := c.Set(t.Context(), State{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the keeper ends and is reaped", func() error { // kill finds zombies too
			if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
				return fmt.Errorf("kill: %v", err)
			}
			return nil
		})
		left, _ := filepath.Glob(k + "/*")
		if want := []string{filepath.Join(k, survivor.LockName), filepath.Join(k, survivor.LogName)}; !slices.Equal(left, want) {
			t.Errorf("left: %v", left)
		}
	}
	if err := c.Set(t.Context(), State{}); err != nil || c.proc.Holder() != 0 {
		t.Errorf("an empty state started one: %v", err)
	}
	// Ports that were only reserved mean nothing to anyone after the client's end.
	if _, err := c.Reserve(context.Background(), []Port{{Proto: "tcp", HostIP: netip.MustParseAddr("127.0.0.1")}}); err != nil {
		t.Fatal(err)
	}
	if c.proc.Holder() == 0 {
		t.Fatal("none runs")
	}
	c.Close()
	eventually(t, "the keeper ends", func() error {
		if c.proc.Holder() != 0 {
			return errors.New("it runs")
		}
		return nil
	})
}
