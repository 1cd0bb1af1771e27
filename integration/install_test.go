package integration

import (
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// installer runs contrib/install.sh, as make install, uninstall and plist do.
func installer(t *testing.T, verb, destdir, prefix, system string) string {
	t.Helper()
	cmd := exec.Command("../contrib/install.sh", verb)
	cmd.Env = append(os.Environ(), "BIN="+bed.bin, "DESTDIR="+destdir, "PREFIX="+prefix, "OS="+system)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("install.sh %s: %v\n%s", verb, err, out)
	}
	return string(out)
}

// tree lists the files beneath dir, as absolute paths without it.
func tree(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// What is installed is what the plist says, in the places of hier(7), without a trace of DESTDIR; and all of it goes again but the administrator's file.
func TestInstall(t *testing.T) {
	for system, want := range map[string]map[string]fs.FileMode{
		"freebsd": {"/opt/b/etc/rc.d/brigd": 0o555, "/opt/b/etc/brig.conf.sample": 0o644, "/opt/b/etc/newsyslog.conf.d/brigd.conf.sample": 0o644},
		"linux":   {"/opt/b/lib/systemd/system/brigd.service": 0o644, "/etc/brig/brig.conf.sample": 0o644},
	} {
		dest := t.TempDir()
		installer(t, "install", dest, "/opt/b", system)
		var listed []string
		for line := range strings.Lines(installer(t, "plist", "/elsewhere", "/opt/b", system)) {
			file := strings.TrimPrefix(strings.TrimSpace(line), "@sample ")
			if !filepath.IsAbs(file) {
				file = "/opt/b/" + file
			}
			listed = append(listed, file)
		}
		slices.Sort(listed)
		if got := tree(t, dest); !slices.Equal(got, listed) {
			t.Errorf("%s: installed is %q, the plist has %q", system, got, listed)
		}
		for _, p := range []string{"sbin/brigd", "bin/brig", "libexec/brig/brig-shim", "libexec/brig/brig-net", "libexec/brig/brig-mds"} {
			want["/opt/b/"+p] = 0o755
		}
		for _, p := range []string{"man8/brigd.8.gz", "man8/brig.8.gz", "man5/brig.conf.5.gz"} {
			want["/opt/b/share/man/"+p] = 0o644
		}
		for file, mode := range want {
			if st, err := os.Stat(dest + file); err != nil || st.Mode() != mode {
				t.Errorf("%s: %s: %v, %v", system, file, st, err)
			}
		}
		own := dest + "/etc/brig/brig.conf"
		if err := errors.Join(os.MkdirAll(filepath.Dir(own), 0o755), os.WriteFile(own, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		installer(t, "install", dest, "/opt/b", system) // over what is there
		checkPaths(t, dest, system)
		installer(t, "uninstall", dest, "/opt/b", system)
		if left := tree(t, dest); !slices.Equal(left, []string{"/etc/brig/brig.conf"}) {
			t.Errorf("%s: uninstall leaves %q", system, left)
		}
	}
}

// checkPaths looks at what is changed on its way: scripts know PREFIX, manual pages are compressed, and nothing knows DESTDIR.
func checkPaths(t *testing.T, dest, system string) {
	t.Helper()
	script := map[string]string{"freebsd": "/opt/b/etc/rc.d/brigd", "linux": "/opt/b/lib/systemd/system/brigd.service"}[system]
	text, err := os.ReadFile(dest + script)
	if err != nil || !strings.Contains(string(text), "/opt/b/sbin/brigd") || strings.Contains(string(text), "/usr/local") || strings.Contains(string(text), dest) {
		t.Errorf("%s: %v\n%s", script, err, text)
	}
	f, err := os.Open(dest + "/opt/b/share/man/man8/brigd.8.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(z)
	source, serr := os.ReadFile("../man/brigd.8")
	if err != nil || serr != nil || string(page) != string(source) {
		t.Errorf("the installed brigd.8 is another one: %v, %v", err, serr)
	}
}

// A brigd in sbin finds what it starts in libexec/brig.
func TestInstalledRuns(t *testing.T) {
	own(t)
	dir, err := os.MkdirTemp("", "brig-ins-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	installer(t, "install", filepath.Join(dir, "dest"), "/usr/local", runtime.GOOS)
	s := testbed.NewServer(filepath.Join(dir, "dest/usr/local/sbin"), dir)
	s.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"} // where no brig-shim is
	start(t, s)
	t.Cleanup(func() {
		if err := stopServer(s); err != nil {
			t.Error(err)
		}
	})
	cli := bed.cli
	cli.Host = s.Host
	if r := cli.Run(bed.ctx, nil, "run", "--rm", "-p", "127.0.0.1::80", image("busybox"), "echo", "installed"); r.Code != 0 || r.Out != "installed\n" {
		t.Errorf("%s\n%s", r, testbed.LogEnd(s.Log))
	}
}
