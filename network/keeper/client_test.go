package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/survivor"
)

// oneName is a resolver at at that knows one name.
func oneName(at netip.AddrPort, name, addr string) State {
	return State{
		Resolvers: []Resolver{{Container: "c1", Listen: []netip.AddrPort{at}, Networks: []string{"n1"}}},
		Networks:  []Zone{{Network: "n1", Name: "net", Names: []Name{{name, addrs(addr)}}}},
	}
}

func want(t testing.TB, at netip.AddrPort, name, addr string) {
	t.Helper()
	if got := lookup(at.String(), name); got != addr {
		t.Fatalf("%s: %q, not %q", name, got, addr)
	}
}

func TestNamesAnswerOnceSetHasReturned(t *testing.T) {
	c, at := open(t, t.TempDir()), freeAddr(t)
	for _, addr := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		if err := c.Set(t.Context(), oneName(at, "web", addr)); err != nil {
			t.Fatal(err)
		}
		want(t, at, "web", addr)
	}
}

func TestKilledKeeperIsHealed(t *testing.T) {
	c, at := open(t, t.TempDir()), freeAddr(t)
	if err := c.Set(t.Context(), oneName(at, "web", "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	held, err := c.Reserve(t.Context(), []Port{{Proto: "tcp", HostIP: netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		pid := c.proc.Holder()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another keeper serves", func() error {
			if now := c.proc.Holder(); now == 0 || now == pid {
				return errors.New("there is none")
			}
			if got := lookup(at.String(), "web"); got != "10.0.0.1" {
				return errors.New(got)
			}
			return nil
		})
		if l, err := net.Listen("tcp4", held[0].key().at.String()); err == nil {
			l.Close()
			t.Fatal("the reserved port isn't held by the new keeper")
		}
	}
}

func TestServesWithoutClients(t *testing.T) {
	dir, at := t.TempDir(), freeAddr(t)
	c := open(t, dir)
	to := tcpServer(t, "a", "127.0.0.1:0")
	s := oneName(at, "web", "10.0.0.1")
	relayed := freeAddr(t)
	s.Ports = []Port{{Proto: "tcp", HostIP: relayed.Addr(), HostPort: relayed.Port(), To: to}}
	if err := c.Set(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	pid := c.proc.Holder()
	through, err := net.Dial("tcp", relayed.String())
	if err != nil {
		t.Fatal(err)
	}
	defer through.Close()
	c.Close()
	if err := c.Set(t.Context(), s); !errs.Is(err, errs.Unavailable) {
		t.Errorf("Set after Close: %v", err)
	}
	want(t, at, "web", "10.0.0.1")
	// The next brigd takes over; what goes through the keeper goes on.
	second := open(t, dir)
	s.Networks[0].Names[0].Addrs = addrs("10.0.0.2")
	if err := second.Set(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	want(t, at, "web", "10.0.0.2")
	if second.proc.Holder() != pid {
		t.Error("it is another process")
	}
	through.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(through, "x")
	if b, err := io.ReadAll(io.LimitReader(through, 3)); string(b) != "a:x" {
		t.Errorf("a connection of before: %q, %v", b, err)
	}
}

// A directory that is deleted while no brigd is there to know leaves no process behind that holds addresses for nobody.
func TestDeletedDirectory(t *testing.T) {
	dir, at := filepath.Join(t.TempDir(), "k"), freeAddr(t)
	c := open(t, dir)
	if err := c.Set(t.Context(), oneName(at, "web", "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	pid := c.proc.Holder()
	c.Close()
	want(t, at, "web", "10.0.0.1")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the keeper has ended", func() error {
		if err := syscall.Kill(pid, 0); err == nil {
			var ws syscall.WaitStatus
			if got, _ := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil); got != pid { // it is our child
				return errors.New("it runs")
			}
		}
		return nil
	})
}

// The latest client speaks for the instance. An earlier one neither fights for it nor starts a keeper of its own.
func TestSecondClient(t *testing.T) {
	dir, at := t.TempDir(), freeAddr(t)
	first, second := open(t, dir), open(t, dir)
	if err := first.Set(t.Context(), oneName(at, "web", "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	if err := second.Set(t.Context(), oneName(at, "web", "10.0.0.2")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first has noticed", func() error {
		first.proc.Lock()
		defer first.proc.Unlock()
		if first.proc.Active() {
			return errors.New("no")
		}
		return nil
	})
	want(t, at, "web", "10.0.0.2")
}

// A keeper that answers nothing is killed; one of another version ends. Either way another serves.
func TestReplacesKeepers(t *testing.T) {
	dir, at := t.TempDir(), freeAddr(t)
	c := open(t, dir)
	if err := c.Set(t.Context(), oneName(at, "web", "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	old := c.proc.Holder()
	c.Close()
	if err := syscall.Kill(old, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all its threads have stopped", func() error { // one that goes on may still greet
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", old))
		for _, f := range stats {
			if b, e := os.ReadFile(f); e != nil || !strings.Contains(string(b), ") T ") {
				return errors.New(f + " runs")
			}
		}
		return err
	})
	next := open(t, dir)
	if err := next.Set(t.Context(), oneName(at, "web", "10.0.0.2")); err != nil {
		t.Fatal(err)
	}
	want(t, at, "web", "10.0.0.2")
	if next.proc.Holder() == old {
		t.Error("it is the same process")
	}
}

// A keeper that takes long to end, while another has been started already, be it by a Set or by healing, is buried as well.
func TestBuriesAllKeepers(t *testing.T) {
	for _, heals := range []bool{false, true} {
		t.Run(fmt.Sprint("heals ", heals), func(t *testing.T) {
			dir, at := t.TempDir(), freeAddr(t)
			c := open(t, dir)
			if err := c.Set(t.Context(), oneName(at, "web", "10.0.0.1")); err != nil {
				t.Fatal(err)
			}
			old := c.proc.Holder()
			if err := errors.Join(os.Remove(filepath.Join(dir, survivor.SocketName)), syscall.Kill(old, syscall.SIGSTOP)); err != nil {
				t.Fatal(err)
			}
			c.proc.Lock()
			c.proc.HangUp() // as if it had ended, but for its lock
			c.proc.Unlock()
			ended := make(chan error, 1)
			go func() {
				time.Sleep(300 * time.Millisecond) // the next one waits for the lock
				ended <- syscall.Kill(old, syscall.SIGKILL)
			}()
			if !heals {
				if err := c.Set(t.Context(), oneName(at, "web", "10.0.0.2")); err != nil {
					t.Fatal(err)
				}
				want(t, at, "web", "10.0.0.2")
			}
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is buried", func() error {
				if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", old)); err == nil {
					return errors.New(string(b))
				}
				return nil
			})
			eventually(t, "another one serves", func() error {
				if pid := c.proc.Holder(); pid == 0 || pid == old {
					return fmt.Errorf("the lock is %d's", pid)
				}
				return nil
			})
		})
	}
}

func TestReplacesOtherVersions(t *testing.T) {
	dir, at := t.TempDir(), freeAddr(t)
	l, err := net.Listen("unix", filepath.Join(dir, survivor.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 10)
	go func() { // a keeper of the future
		c, err := l.Accept()
		if err != nil {
			return
		}
		for q := (request{}); survivor.ReadMessage(c, &q) == nil && q.Op != survivor.OpQuit; {
			told <- q.Op
			survivor.WriteMessage(c, map[string]any{"Protocol": protocol + 1, "More": []int{1}})
		}
		told <- survivor.OpQuit
		l.Close()
		c.Close()
	}()
	if err := open(t, dir).Set(t.Context(), oneName(at, "web", "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	want(t, at, "web", "10.0.0.1")
	if a, b := <-told, <-told; a != survivor.OpHello || b != survivor.OpQuit {
		t.Errorf("it was told %s and %s", a, b)
	}
}

func TestReserve(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	other, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	taken := other.Addr().(*net.TCPAddr).AddrPort().Port()
	free := Port{Proto: "tcp", HostIP: local4}
	// All or none.
	first := freeAddr(t).Port()
	_, err = c.Reserve(t.Context(), []Port{{Proto: "tcp", HostIP: local4, HostPort: first}, {Proto: "tcp", HostIP: local4, HostPort: taken}})
	if !errors.Is(err, syscall.EADDRINUSE) || errs.KindOf(err) != errs.Internal || err.Error() != "failed to bind port "+other.Addr().String()+"/tcp: address already in use" {
		t.Errorf("a port of another program: %v", err)
	}
	got, err := c.Reserve(t.Context(), []Port{{Proto: "tcp", HostIP: local4, HostPort: first}, free, {Proto: "udp", HostIP: any6}})
	if err != nil || got[0].HostPort != first || got[1].HostPort == 0 || got[2].HostPort == 0 {
		t.Fatalf("%v, %v", got, err)
	}
	if _, err := c.Reserve(t.Context(), []Port{got[1]}); err == nil || err.Error() != "Bind for "+got[1].key().at.String()+" failed: port is already allocated" {
		t.Errorf("a port of ours: %v", err)
	}
	ranged := Port{Proto: "tcp", HostIP: local4, HostPort: taken, HostEnd: taken + 20}
	if r, err := c.Reserve(t.Context(), []Port{ranged}); err != nil || r[0].HostPort <= taken || r[0].HostEnd != 0 {
		t.Errorf("a range: %v, %v", r, err)
	}
	if _, err := c.Reserve(t.Context(), []Port{{Proto: "sctp", HostIP: local4, HostPort: 9}}); !errs.Is(err, errs.NotImplemented) {
		t.Errorf("sctp: %v", err)
	}
	// A Set that names a port keeps it, and frees the others.
	if err := c.Set(t.Context(), State{Ports: got[1:2]}); err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("tcp4", got[1].key().at.String()); err == nil {
		l.Close()
		t.Error("the port that was named is free")
	}
	l, err := net.Listen("tcp4", got[0].key().at.String())
	if err != nil {
		t.Fatal("the port that wasn't named is not free:", err)
	}
	defer l.Close()
	// What can't be served is named, and all else is served.
	bad := []Port{got[0], got[2], got[1]}
	if err := c.Set(t.Context(), State{Ports: bad}); err == nil || !strings.Contains(err.Error(), got[0].key().at.String()) || strings.Contains(err.Error(), got[2].key().at.String()) {
		t.Errorf("Set with a port of another program: %v", err)
	}
	if u, err := net.ListenPacket("udp6", got[2].key().at.String()); err == nil {
		u.Close()
		t.Error("the other port isn't held")
	}
}

// The process is nobody's but its own: a session, no descriptors of the client's, the root as its directory, all the descriptors
// that it may have.
func TestProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	held, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	c := open(t, filepath.Join(t.TempDir(), "k"))
	if err := c.Set(t.Context(), oneName(freeAddr(t), "web", "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	pid := c.proc.Holder()
	proc := "/proc/" + strconv.Itoa(pid)
	if sid, err := unix.Getsid(pid); sid != pid {
		t.Errorf("session %d of process %d, %v", sid, pid, err)
	}
	if cwd, err := os.Readlink(proc + "/cwd"); cwd != "/" {
		t.Errorf("directory %s, %v", cwd, err)
	}
	fds, _ := filepath.Glob(proc + "/fd/*")
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); to == os.DevNull && filepath.Base(fd) > "1" {
			t.Errorf("descriptor %s is %s", filepath.Base(fd), to)
		}
	}
	if st, err := os.Stat(c.cfg.Dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the keeper's directory: %v, %v", st, err)
	}
	limits, err := os.ReadFile(proc + "/limits")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max open files") && f[3] != f[4] {
			t.Errorf("descriptors: %s of %s", f[3], f[4])
		}
	}
}

// What isn't a message ends its own connection alone.
func TestHostileClients(t *testing.T) {
	c, at := open(t, t.TempDir()), freeAddr(t)
	if err := c.Set(t.Context(), oneName(at, "web", "10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{"\xff\xff\xff\xff", "\x00\x00\x00\x02{", "\x00\x00\x00\x02[]", "\x00\x00\x00\x0f{\"Op\":\"set\"}   ", "\x00\x00\x00\x0c{\"Op\":\"rm\"} "} {
		conn, err := net.Dial("unix", filepath.Join(c.cfg.Dir, survivor.SocketName))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, raw)
		conn.(*net.UnixConn).CloseWrite()
		io.ReadAll(conn)
		conn.Close()
	}
	if err := c.Set(t.Context(), oneName(at, "web", "10.0.0.2")); err != nil {
		t.Fatal(err)
	}
	want(t, at, "web", "10.0.0.2")
}

func TestProgramIsMissing(t *testing.T) {
	c := Open(Config{Dir: t.TempDir(), Program: "/nowhere/brig-net", Log: quiet})
	defer c.Close()
	if err := c.Set(t.Context(), oneName(freeAddr(t), "web", "10.0.0.1")); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "/nowhere/brig-net") {
		t.Errorf("got %v", err)
	}
	c2 := Open(Config{Dir: t.TempDir(), Program: "/bin/false", Log: quiet})
	defer c2.Close()
	if _, err := c2.Reserve(t.Context(), []Port{{Proto: "tcp", HostIP: local4}}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("got %v", err)
	}
}

// Ending a request early leaves neither client nor keeper confused.
func TestCanceled(t *testing.T) {
	c, at := open(t, t.TempDir()), freeAddr(t)
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond/4)
		_ = c.Set(ctx, oneName(at, "web", "10.0.0."+strconv.Itoa(i))) // whether it is in time doesn't matter
		cancel()
	}
	eventually(t, "the last state is served", func() error {
		if got := lookup(at.String(), "web"); got != "10.0.0.19" {
			return errors.New(got)
		}
		return nil
	})
}
