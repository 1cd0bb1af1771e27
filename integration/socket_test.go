package integration

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

// The docker command works for root and for a user of the socket's group, and for nobody else.
func TestSocketGroup(t *testing.T) {
	own(t)
	const group, other, nobody = 54321, 54322, 65534
	dir, err := os.MkdirTemp("", "brig-grp-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := testbed.NewServer(bed.bin, dir, "--group", strconv.Itoa(group))
	start(t, s)
	t.Cleanup(func() {
		if err := stopServer(s); err != nil {
			t.Error(err)
		}
	})
	info, err := os.Stat(strings.TrimPrefix(s.Host, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	equal(t, "socket", fmt.Sprintf("%v %d:%d", info.Mode(), st.Uid, st.Gid), fmt.Sprintf("Srw-rw---- 0:%d", group))
	as := func(uid, gid uint32, groups ...uint32) (string, error) {
		ctx, cancel := context.WithTimeout(bed.ctx, patience)
		defer cancel()
		cmd := testbed.CLI{Host: s.Host, Config: "/nonexistent"}.Command(ctx, "info", "-f", "{{.OSType}}")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
		cmd.Dir = "/"
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return out.String(), err
	}
	for _, c := range []struct {
		who      string
		uid, gid uint32
		groups   []uint32
		in       bool
	}{
		{"root", 0, 0, nil, true},
		{"group alone", nobody, group, nil, true},
		{"one of several groups", nobody, nobody, []uint32{other, group}, true},
		{"no group", nobody, nobody, nil, false},
		{"other groups", nobody, other, []uint32{nobody}, false},
	} {
		out, err := as(c.uid, c.gid, c.groups...)
		if c.in && (err != nil || !strings.Contains(out, runtime.GOOS)) || !c.in && (err == nil || !strings.Contains(out, "permission denied")) {
			t.Errorf("%s: %v: %s", c.who, err, out)
		}
	}
	s.Stop()
	cmd := s.Command(bed.ctx)
	cmd.Args = append(cmd.Args, "--group", "nosuchgroup-of-brig")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Error("brigd ran with a group that doesn't exist")
	}
	match(t, "no such group", string(out), `there is no group \\?"nosuchgroup-of-brig`)
	start(t, s)
}

// idleClients is how many connections are held open.
const idleClients = 10_000

// Ten thousand clients that have asked something and keep their connections cost brigd a descriptor and some memory each, keep nobody
// else from being answered, and are forgotten when they go. brigd raises its own limit of descriptors for that.
func TestIdleConnections(t *testing.T) {
	own(t)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 1024 // what a daemon is mostly started with; it is inherited by brigd
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	s, cli := daemon(t)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	soft, hard, err := testbed.FileLimits(s.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if soft < hard-1 || soft <= 1024 { // Go keeps one below, to know it for its own
		t.Errorf("brigd's limits of descriptors are %d and %d", soft, hard)
	}
	get := func(path string) string {
		status, _, body, err := s.Get(bed.ctx, path)
		if err != nil || status != 200 {
			t.Fatalf("GET %s: %d, %v", path, status, err)
		}
		return body
	}
	id := done(t, cli, "run", "-d", image("busybox"), "sleep", "600")
	done(t, cli, "exec", id, "true")
	before, memory := loadOf(t, s.Pid(), get), memoryOf(t, s.Pid())
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	ask := func(c net.Conn, r *bufio.Reader) error {
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"); err != nil {
			return err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "OK" {
			return fmt.Errorf("%q, %v", body, err)
		}
		return nil
	}
	for n := range idleClients {
		c := dial(t, s)
		open = append(open, c)
		if err := ask(c, bufio.NewReaderSize(c, 512)); err != nil {
			t.Fatalf("connection %d: %v", n, err)
		}
	}
	full := loadOf(t, s.Pid(), get)
	if full.files+50 < before.files+idleClients { // what the last commands held may have been open still
		t.Errorf("%d descriptors with %d clients: some were cut off", full.files, idleClients)
	}
	grown := memoryOf(t, s.Pid()) - memory
	t.Logf("%d idle connections cost %d MiB", idleClients, grown>>20)
	if grown > 40<<10*idleClients {
		t.Errorf("%d MiB more", grown>>20)
	}
	equal(t, "exec meanwhile", done(t, cli, "exec", id, "echo", "x"), "x")
	equal(t, "run meanwhile", done(t, cli, "run", "--rm", image("busybox"), "echo", "y"), "y")
	for _, n := range []int{0, idleClients / 2, idleClients - 1} { // none was closed for resting
		if err := ask(open[n], bufio.NewReader(open[n])); err != nil {
			t.Errorf("connection %d, later: %v", n, err)
		}
	}
	for _, c := range open {
		c.Close()
	}
	open = nil
	eventually(t, "brigd is as before", func() (bool, string) {
		now := loadOf(t, s.Pid(), get)
		same := now.goroutines <= before.goroutines && now.files <= before.files && now.children <= before.children
		return same, fmt.Sprintf("%+v, before %+v", now, before)
	})
	equal(t, "container", done(t, cli, "inspect", "-f", "{{.State.Running}}", id), "true")
}

// dial connects to a server's socket, whose queue may be full for a while.
func dial(t *testing.T, s *testbed.Server) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("unix", strings.TrimPrefix(s.Host, "unix://"))
		if err == nil {
			return c
		}
		// Where the queue of the socket is full Linux says the one, FreeBSD the other.
		if !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// memoryOf is the memory of a process in bytes.
func memoryOf(t testing.TB, pid int) int64 {
	t.Helper()
	n, err := testbed.Resident(pid)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
