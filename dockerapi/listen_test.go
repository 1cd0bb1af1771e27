package dockerapi

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
)

var silent = slog.New(slog.DiscardHandler)

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), silent, "unix://"+path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode() != fs.ModeSocket|0o660 {
		t.Fatalf("%v, %v", fi.Mode(), err)
	}
	if _, err := Listen(t.Context(), silent, "unix://"+path, "", nil); !errs.Is(err, errs.Conflict) {
		t.Errorf("a second server: %v, want Conflict", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestListenReplacesADeadSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	l, err := Listen(t.Context(), silent, "unix://"+path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestCloseLeavesAnothersSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), silent, "unix://"+path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(path)
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other's socket is gone: %v", err)
	}
}

func TestListenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for host, kind := range map[string]errs.Kind{
		"": errs.Invalid, "/run/x.sock": errs.Invalid, "unix://relative": errs.Invalid, "fd://": errs.Invalid, "npipe:////x": errs.Invalid,
		"tcp://0.0.0.0:0": errs.Invalid, "tcp://:0": errs.Invalid, "tcp://example.com:0": errs.Invalid, "tcp://[::]:0": errs.Invalid, "tcp://127.0.0.1": errs.Invalid,
		"unix://" + file: errs.Conflict,
	} {
		if l, err := Listen(t.Context(), silent, host, "", nil); !errs.Is(err, kind) {
			t.Errorf("%q: %v, want %v", host, err, kind)
			if l != nil {
				l.Close()
			}
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file: %q, %v", b, err)
	}
	if _, err := Listen(t.Context(), silent, "unix://"+file+"/x", "", nil); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("below a file: %v", err)
	}
}

func TestListenLoopback(t *testing.T) {
	for _, host := range []string{"tcp://127.0.0.1:0", "tcp://localhost:0"} {
		l, err := Listen(t.Context(), silent, host, "", nil)
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		l.Close()
	}
}

func TestListenGivesTheGroupTheSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: gives a socket to another group")
	}
	id := func(group string) string {
		if g, err := user.LookupGroup(group); err == nil {
			return g.Gid
		}
		return "0"
	}
	for group, want := range map[string]string{"daemon": id("daemon"), "12345": "12345", "": "0", "brig": id("brig"), "nosuchgroup-of-brig": "", "-1": "", "4294967295": ""} {
		path := filepath.Join(t.TempDir(), "s")
		l, err := Listen(t.Context(), silent, "unix://"+path, group, nil)
		if want == "" {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("%q: %v, want Invalid", group, err)
			}
			if left, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(left) > 0 {
				t.Errorf("%q: left behind: %v", group, left)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", group, err)
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || strconv.Itoa(int(st.Gid)) != want || st.Uid != 0 || st.Mode != unix.S_IFSOCK|0o660 {
			t.Errorf("%q: group %d, user %d, mode %o, want group %s (%v)", group, st.Gid, st.Uid, st.Mode, want, err)
		}
		l.Close()
	}
}
