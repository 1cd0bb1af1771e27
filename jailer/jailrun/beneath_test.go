//go:build linux || freebsd

package jailrun

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBeneath(t *testing.T) {
	top := t.TempDir()
	outside := filepath.Join(top, "outside")
	root := filepath.Join(top, "root")
	for _, d := range []string{outside, filepath.Join(root, "run/lock"), filepath.Join(root, "var"), filepath.Join(root, "deep/er")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"var/run": "/run", "rel": "deep/../run", "out": "../../outside", "abs": outside, "loop": "loop", "var/up": "../../../../run/lock", "file": "run/f", "end": "run/..",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, c := range []struct {
		path, want string // want: where it lies, beneath root; "" for an error
		file       bool
	}{
		{"/run", "run", false}, {"var/run", "run", false}, {"/var/run/lock/", "run/lock", false}, {"rel/x", "run/x", false}, {"/var/up/new/one", "run/lock/new/one", false},
		{"/out/x", "outside/x", false}, {"/abs", strings.TrimPrefix(outside, "/"), false}, {"loop", "", false}, {"/", ".", false}, {"..", ".", false}, {"../../../outside", "outside", false},
		{"file", "run/f", true}, {"run/f/x", "", false}, {"end", ".", false}, {"end/run", "run", false}, {"deep/er/../../made", "made", false},
	} {
		dir, name, err := beneath(fd, c.path, c.file)
		if (err == nil) != (c.want != "") {
			t.Errorf("%s: %v", c.path, err)
		}
		if err != nil {
			continue
		}
		var got, want unix.Stat_t
		if err := unix.Fstatat(dir, name, &got, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Errorf("%s: %v", c.path, err)
		}
		unix.Close(dir)
		if err := unix.Lstat(filepath.Join(root, c.want), &want); err != nil || want.Ino != got.Ino {
			t.Errorf("%s is not %s: %v", c.path, c.want, err)
		}
		if isFile := got.Mode&unix.S_IFMT == unix.S_IFREG; isFile != c.file {
			t.Errorf("%s: file is %v", c.path, isFile)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Errorf("something was made outside: %v", entries)
	}
}
