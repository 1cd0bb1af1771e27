//go:build linux || freebsd

package jailer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

// bench is one Jailer with a root file system to run things in.
type bench struct {
	testing.TB
	*Jailer
	dir, root string
}

func newBench(t testing.TB, runtime string) *bench {
	t.Helper()
	b := &bench{TB: t, dir: t.TempDir()}
	b.root = makeRoot(t, filepath.Join(b.dir, "root"))
	j, err := New(b.config(runtime))
	if err != nil {
		t.Fatal(err)
	}
	b.Jailer = j
	return b
}

func (b *bench) config(runtime string) Config {
	return Config{LoadModules: true,
		Runtime: runtime, Shim: shimPath, Instance: testInstance, RunDir: filepath.Join(b.dir, "run"),
		Log: slog.New(slog.NewTextHandler(b.Output(), nil)),
	}
}

func (b *bench) jail(args ...string) *brig.Jail {
	return &brig.Jail{
		ID: brig.NewID(), Dir: filepath.Join(b.dir, "run", string(brig.NewRID())), Root: b.root, Hostname: "testhost", OS: "linux", Args: args,
		LogPath: filepath.Join(b.dir, string(brig.NewRID())+".log"),
	}
}

// create makes the jail and sees to its end.
func (b *bench) create(j *brig.Jail) *brig.Handle {
	b.Helper()
	h, warnings, err := b.Create(b.Context(), j)
	if err != nil {
		b.Fatalf("create: %v", err)
	}
	for _, w := range warnings {
		b.Log("warning:", w)
	}
	b.Cleanup(func() {
		if err := b.Destroy(context.Background(), h); err != nil {
			b.Errorf("destroy: %v", err)
		}
	})
	return h
}

func (b *bench) start(h *brig.Handle) {
	b.Helper()
	if err := b.Start(b.Context(), h); err != nil {
		b.Fatalf("start: %v", err)
	}
}

func (b *bench) wait(h *brig.Handle) brig.Exit {
	b.Helper()
	e, err := b.Wait(b.Context(), h)
	if err != nil {
		b.Fatalf("wait: %v", err)
	}
	return e
}

func newBuffer() *buffer {
	b := &buffer{}
	b.cond = sync.NewCond(&b.mu)
	return b
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cond.Broadcast()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await returns once text has been written.
func (b *buffer) await(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !strings.Contains(b.b.String(), text) {
		b.cond.Wait()
	}
}

// run runs a jail with its streams attached and returns what came.
func (b *bench) run(j *brig.Jail, stdin string) (out, errOut string, exit brig.Exit) {
	b.Helper()
	h := b.create(j)
	o, e := newBuffer(), newBuffer()
	bio := brig.IO{Stdout: o, Stderr: e}
	if stdin != "" {
		bio.Stdin, bio.CloseStdin = strings.NewReader(stdin), true
	}
	done := b.attach(h, bio)
	b.start(h)
	exit = b.wait(h)
	if err := <-done; err != nil {
		b.Errorf("attach: %v", err)
	}
	return o.String(), e.String(), exit
}

// attach attaches and returns when nothing can be missed any more.
func (b *bench) attach(h *brig.Handle, bio brig.IO) <-chan error {
	b.Helper()
	attached, done := make(chan struct{}), make(chan error, 1)
	bio.Attached = func() { close(attached) }
	go func() { done <- b.Attach(b.Context(), h, bio) }()
	select {
	case <-attached:
	case err := <-done:
		b.Fatalf("attach: %v", err)
	}
	return done
}

func itoa(n int) string { return fmt.Sprint(n) }

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	cond *sync.Cond
}

// makeRoot makes a root file system out of a static busybox.
func makeRoot(t testing.TB, root string) string {
	t.Helper()
	bin, err := os.ReadFile(cmp.Or(os.Getenv("BRIG_TEST_BUSYBOX"), "/bin/busybox"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n",
		"etc/group":  "root:x:0:\nwheel:x:10:root\nweb:x:1000:\nextra:x:2000:web\n",
		"etc/plain":  "no program\n",
	}
	for name, text := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755), os.WriteFile(filepath.Join(root, name), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "tmp", "dev", "proc", "sys"} {
		os.MkdirAll(filepath.Join(root, d), 0o777)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "cat", "echo", "true", "false", "sleep", "env", "id", "head", "wc", "seq", "stty", "ls", "kill", "touch", "hostname", "pwd", "grep", "ps", "mount", "dd", "sha256sum", "nc", "readlink"} {
		os.Symlink("busybox", filepath.Join(root, "bin", name))
	}
	return root
}

const testInstance = "jailertest"
