package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/config"
	"github.com/brigd/brig/internal/errs"
)

// testRoot is a root directory for engines of this test, with brig-shim beside it.
type testRoot struct {
	dir, storage, shim string
}

func newTestRoot(t *testing.T, storage string) *testRoot {
	t.Helper()
	if goruntime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("needs root and Linux: mounts, and a jail to probe the runtime with")
	}
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "brig-shim"), "../brig-shim")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build brig-shim: %v\n%s", err, out)
	}
	return &testRoot{dir: filepath.Join(dir, "r"), storage: storage, shim: filepath.Join(dir, "brig-shim")}
}

func (r *testRoot) config() config.Config {
	c := config.Default()
	c.Root, c.Storage, c.Shim = r.dir, r.storage, r.shim
	return c
}

// open opens a real engine; close may be called again.
func (r *testRoot) open(t *testing.T) (e *engine, close func()) {
	t.Helper()
	e, err := open(t.Context(), r.config(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	close = sync.OnceFunc(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(close)
	return e, close
}

// names lists a directory beneath the root.
func (r *testRoot) names(t *testing.T, elem ...string) (out []string) {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(append([]string{r.dir}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		out = append(out, f.Name())
	}
	return out
}

// shelf is a registry in memory.
type shelf struct{ addr string }

func newShelf(t *testing.T) *shelf {
	t.Helper()
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))))
	t.Cleanup(srv.Close)
	return &shelf{strings.TrimPrefix(srv.URL, "http://")}
}

// put makes an image of layers with one file each, and returns its reference.
func (s *shelf) put(t *testing.T, tag string, layers ...string) string {
	t.Helper()
	ref := s.addr + "/img:" + tag
	var adds []v1.Layer
	for _, text := range layers {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: text, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(text))
		w.Close()
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
		if err != nil {
			t.Fatal(err)
		}
		adds = append(adds, l)
	}
	img, err := mutate.AppendLayers(empty.Image, adds...)
	if err == nil {
		img, err = mutate.ConfigFile(img, platformed(t, img, tag))
	}
	if err != nil {
		t.Fatal(err)
	}
	to, err := name.ParseReference(ref)
	if err == nil {
		err = remote.Write(to, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func platformed(t *testing.T, img v1.Image, tag string) *v1.ConfigFile {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Config.Cmd, c.Config.Labels = "linux", goruntime.GOARCH, []string{"/none"}, map[string]string{"tag": tag}
	return c
}

func (e *engine) mustPull(t *testing.T, ref string) {
	t.Helper()
	repo, tag, _ := strings.Cut(ref, "/img:")
	if err := e.images.Pull(t.Context(), brig.PullRequest{Name: repo + "/img", Tag: tag}, func(brig.Progress) {}); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for something that brigd does in the background.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(6 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never came to be: " + what)
		}
	}
}

// The layers of an image that was removed by force under a container go with the container, also if brigd was restarted between.
func TestLayersGoWithTheLastContainer(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			r := newTestRoot(t, "overlay")
			e, close := r.open(t)
			ref := newShelf(t).put(t, "a", "low", "high")
			e.mustPull(t, ref)
			id, _, err := e.containers.Create(t.Context(), brig.CreateRequest{Spec: brig.Spec{Image: ref}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.images.ImageRemove(t.Context(), ref, true, false); err != nil {
				t.Fatal(err)
			}
			if restart {
				close()
				e, _ = r.open(t)
			}
			if got := len(r.names(t, "store", "l")); got != 2 {
				t.Fatalf("%d layers are left under the container, want 2", got)
			}
			if err := e.containers.Remove(t.Context(), string(id), brig.RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "no layer is left", func() bool { return len(r.names(t, "store", "l")) == 0 })
		})
	}
}

// What could not be deleted when it was removed is deleted later, without anybody asking.
func TestStuckDeletionIsTriedAgain(t *testing.T) {
	r := newTestRoot(t, "overlay")
	e, _ := r.open(t)
	ref := newShelf(t).put(t, "a", "low")
	e.mustPull(t, ref)
	eventually(t, "the ACI ID", func() bool { i, err := e.images.ImageGet(t.Context(), ref); return err == nil && i.ACI.ID != "" })
	layer := filepath.Join(r.dir, "store", "l", r.names(t, "store", "l")[0], "diff")
	immutable(t, layer, true)
	_, err := e.images.ImageRemove(t.Context(), ref, false, false)
	if err != nil {
		t.Error(err)
	}
	left := r.names(t, "store", "w")
	if len(left) != 1 {
		t.Fatalf("in w/: %v, want what could not be deleted", left)
	}
	immutable(t, filepath.Join(r.dir, "store", "w", left[0], "diff"), false)
	e.images.Stir()
	eventually(t, "the rest is deleted", func() bool { return len(r.names(t, "store", "w")) == 0 })
}

func immutable(t *testing.T, dir string, on bool) {
	t.Helper()
	flag := map[bool]string{true: "+i", false: "-i"}[on]
	if out, err := exec.Command("chattr", flag, dir).CombinedOutput(); err != nil {
		t.Skipf("this file system has no immutable files: %s", out)
	}
	if on {
		t.Cleanup(func() { exec.Command("chattr", "-R", "-i", filepath.Dir(filepath.Dir(filepath.Dir(dir)))).Run() })
	}
}

// Pulls, forced removals, containers and collections at once: afterwards all that an image names is whole, and nothing else is there.
func TestCollectorStress(t *testing.T) {
	r := newTestRoot(t, "overlay")
	e, _ := r.open(t)
	s := newShelf(t)
	var refs []string
	for n := range 6 {
		refs = append(refs, s.put(t, fmt.Sprint("t", n), "base", fmt.Sprint("mid", n%2), fmt.Sprint("top", n)))
	}
	allowed := func(err error) {
		if err != nil && !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Conflict) {
			t.Error(err)
		}
	}
	work := []func(ref string){
		func(ref string) {
			repo, tag, _ := strings.Cut(ref, "/img:")
			allowed(e.images.Pull(t.Context(), brig.PullRequest{Name: repo + "/img", Tag: tag}, func(brig.Progress) {}))
		},
		func(ref string) { _, err := e.images.ImageRemove(t.Context(), ref, true, false); allowed(err) },
		func(ref string) {
			id, _, err := e.containers.Create(t.Context(), brig.CreateRequest{Spec: brig.Spec{Image: ref}})
			if allowed(err); err != nil {
				return
			}
			_, err = e.images.ImageRemove(t.Context(), ref, true, false)
			allowed(err)
			allowed(e.containers.Remove(t.Context(), string(id), brig.RemoveOptions{Force: true}))
		},
		func(string) { _, err := e.images.Collect(t.Context(), false); allowed(err) },
	}
	var workers sync.WaitGroup
	for k := range 8 {
		workers.Go(func() {
			for range 40 {
				work[k%len(work)](refs[rand.N(len(refs))])
			}
		})
	}
	workers.Wait()
	for _, ref := range refs[:3] {
		e.mustPull(t, ref)
	}
	checkWhole(t, e, r, 0)
	for _, ref := range refs {
		if _, err := e.images.ImageRemove(t.Context(), ref, true, false); err != nil {
			allowed(err)
		}
	}
	eventually(t, "nothing is left", func() bool {
		return len(r.names(t, "store", "l"))+len(r.names(t, "store", "c"))+len(r.names(t, "store", "w"))+len(r.names(t, "blobs", "sha256")) == 0
	})
}

// checkWhole mounts every image and reads every blob, and waits until the store holds nothing else but so many containers.
func checkWhole(t *testing.T, e *engine, r *testRoot, containers int) {
	t.Helper()
	list, err := e.images.ImageList(t.Context())
	if err != nil || len(list) < 2 {
		t.Fatalf("%d images, %v", len(list), err)
	}
	chains, content := map[brig.Digest]bool{}, map[string]bool{}
	for _, i := range list {
		id, _, err := e.containers.Create(t.Context(), brig.CreateRequest{Spec: brig.Spec{Image: string(i.ID)}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.containers.StatPath(t.Context(), string(id), "/"+lowest(i.Tags)); err != nil {
			t.Errorf("image %s: %v", i.ID, err)
		}
		if err := e.containers.Remove(t.Context(), string(id), brig.RemoveOptions{}); err != nil {
			t.Error(err)
		}
		if err := e.images.Save(context.Background(), []string{string(i.ID)}, io.Discard); err != nil {
			t.Errorf("image %s: %v", i.ID, err)
		}
		for _, l := range i.Layers {
			chains[l.Chain], content[l.Blob.Digest.Hex()] = true, true
		}
		content[i.ID.Hex()], content[i.Manifest.Hex()], content[i.ACI.Manifest.Hex()] = true, true, true
	}
	eventually(t, fmt.Sprintf("%d layers", len(chains)), func() bool { return len(r.names(t, "store", "l")) == len(chains) })
	eventually(t, fmt.Sprintf("%d blobs, not %d", len(content), len(r.names(t, "blobs", "sha256"))), func() bool { return len(r.names(t, "blobs", "sha256")) == len(content) })
	eventually(t, "no clone", func() bool { return len(r.names(t, "store", "c"))+len(r.names(t, "store", "w")) == containers })
}

// lowest is the file that the lowest layer of an image in these tests has.
func lowest(tags []string) string {
	if len(tags) > 0 && strings.Contains(tags[0], "/img:t") {
		return "base"
	}
	return "low"
}
