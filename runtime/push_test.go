package runtime

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// A harbour is a registry that can be pushed to. It keeps what it gets and verifies digests.
type harbour struct {
	mu        sync.Mutex
	blobs     map[string]map[brig.Digest][]byte // by repository
	manifests map[string][]byte                 // by ref
	fault     func(stage string, d brig.Digest) error
	cut       int64 // an upload breaks off after so many bytes, if not 0
}

func newHarbour() *harbour {
	return &harbour{blobs: map[string]map[brig.Digest][]byte{}, manifests: map[string][]byte{}}
}

func (h *harbour) at(stage string, d brig.Digest) error {
	if h.fault == nil {
		return nil
	}
	return h.fault(stage, d)
}

func (h *harbour) HasBlob(ctx context.Context, repository string, d brig.Digest, _ brig.Auth) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.blobs[repository][d]
	return ok, errors.Join(h.at("has", d), ctx.Err())
}

func (h *harbour) PutBlob(ctx context.Context, repository, from string, d brig.Descriptor, open func() (io.ReadCloser, error), _ brig.Auth) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.blobs[repository] == nil {
		h.blobs[repository] = map[brig.Digest][]byte{}
	}
	if b, ok := h.blobs[from][d.Digest]; ok {
		h.blobs[repository][d.Digest] = b
		return true, nil
	}
	if err := h.at("put", d.Digest); err != nil {
		return false, err
	}
	r, err := open()
	if err != nil {
		return false, err
	}
	defer r.Close()
	var src io.Reader = ctxReader{ctx, r}
	if h.cut > 0 {
		src = io.LimitReader(src, h.cut)
	}
	b, err := io.ReadAll(src)
	if err != nil {
		return false, err
	}
	if err := h.at("sent", d.Digest); err != nil {
		return false, err
	}
	if brig.DigestOf(b) != d.Digest || int64(len(b)) != d.Size {
		return false, errs.New(errs.Invalid, "digest invalid: provided digest did not match uploaded content")
	}
	h.blobs[repository][d.Digest] = b
	return false, nil
}

func (h *harbour) PutManifest(_ context.Context, ref, _ string, manifest []byte, _ brig.Auth) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.at("manifest", brig.DigestOf(manifest)); err != nil {
		return err
	}
	var m struct {
		Config manifestDescriptor
		Layers []manifestDescriptor
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		return err
	}
	for _, x := range append(m.Layers, m.Config) {
		if h.blobs[refName(ref)][x.Digest] == nil {
			return errs.New(errs.Invalid, "manifest blob unknown: blob unknown to registry")
		}
	}
	h.manifests[ref] = manifest
	return nil
}

// push pushes and returns the report, without bytes.
func (d *dock) push(ctx context.Context, r brig.PushRequest) ([]string, error) {
	var lines []string
	err := d.Push(ctx, r, func(p brig.Progress) {
		switch {
		case p.Pushed != nil:
			lines = append(lines, "aux "+p.Pushed.Tag+" "+string(p.Pushed.Digest))
		case p.Total == 0 && p.Current == 0:
			lines = append(lines, line(p))
		}
	})
	return lines, err
}

// spoolEmpty wants nothing in the spool but its folders.
func (d *dock) spoolEmpty(t *testing.T) {
	t.Helper()
	filepath.WalkDir(filepath.Join(d.dir, "spool"), func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			t.Errorf("%s stays", path)
		}
		return nil
	})
}

// shop is a dock with the image x:1 of two layers, ready to be pushed to "r.io/x", and the harbour.
func shop(t *testing.T) (*dock, *harbour) {
	t.Helper()
	d, h := newDock(t), newHarbour()
	d.publish("x:1", "base", "top")
	d.mustPull(t, "x:1")
	d.Pusher = h
	if err := d.ImageTag(t.Context(), "x:1", "r.io/x", "1"); err != nil {
		t.Fatal(err)
	}
	return d, h
}

func TestPushReport(t *testing.T) {
	d, h := shop(t)
	remote := d.registry.remotes["docker.io/library/x:1"]
	base, top := shortDigest(brig.DigestOf([]byte("base"))), shortDigest(brig.DigestOf([]byte("top")))
	digest := string(remote.Digest)
	end := func(tag string) []string { return []string{tag + ": digest: " + digest, "aux " + tag + " " + digest} }
	tag := func(repo, tag string) {
		if err := d.ImageTag(t.Context(), "x:1", repo, tag); err != nil {
			t.Fatal(err)
		}
	}
	pushed := func(repo, how string) []string {
		return []string{"The push refers to repository [" + repo + "]", top + ": Preparing", base + ": Preparing", top + ": " + how, base + ": " + how}
	}
	for _, c := range []struct {
		name string
		r    brig.PushRequest
		want []string
	}{
		{"first", brig.PushRequest{Name: "r.io/x", Tag: "1"}, append(pushed("r.io/x", "Pushed"), end("1")...)},
		{"again", brig.PushRequest{Name: "r.io/x", Tag: "1", Platform: "linux/amd64"}, append(pushed("r.io/x", "Layer already exists"), end("1")...)},
		{"to a neighbour", brig.PushRequest{Name: "r.io/crew/y", Tag: "2"}, append(pushed("r.io/crew/y", "Mounted from x"), end("2")...)},
		{"to another registry", brig.PushRequest{Name: "s.io/x", Tag: "1"}, append(pushed("s.io/x", "Pushed"), end("1")...)},
	} {
		tag(c.r.Name, c.r.Tag)
		lines, err := d.push(t.Context(), c.r)
		for n := range lines {
			lines[n], _, _ = strings.Cut(lines[n], " size: ")
		}
		if got, want := byID(lines), byID(c.want); err != nil || got != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", c.name, err, got, want)
		}
		if ref := c.r.Name + ":" + c.r.Tag; !bytes.Equal(h.manifests[ref], remote.Manifest) {
			t.Errorf("%s: manifest %s, want %s", c.name, h.manifests[ref], remote.Manifest)
		}
	}
	tag("r.io/x", "2")
	lines, err := d.push(t.Context(), brig.PushRequest{Name: "r.io/x"})
	if all := strings.Join(lines, "\n"); err != nil || strings.Index(all, "aux 1 ") > strings.Index(all, "aux 2 ") || !strings.Contains(all, "aux 1 ") {
		t.Errorf("all tags: %v\n%s", err, all)
	}
	if info, err := d.ImageGet(t.Context(), "r.io/x@"+digest); err != nil || len(info.Digests) != 4 {
		t.Errorf("the digests are not known: %+v, %v", info, err)
	}
	d.spoolEmpty(t)
}

// TestPushFails: the error is the registry's, no manifest is written, nothing stays here.
func TestPushFails(t *testing.T) {
	denied := errs.New(errs.Forbidden, "denied: requested access to the resource is denied")
	down := errs.New(errs.Unavailable, "received unexpected HTTP status: 507 Insufficient Storage")
	at := func(stage string, err error) func(string, brig.Digest) error {
		return func(s string, _ brig.Digest) error {
			if s == stage {
				return err
			}
			return nil
		}
	}
	for _, c := range []struct {
		name  string
		r     brig.PushRequest
		fault func(string, brig.Digest) error
		kind  errs.Kind
		words string
		tries int // of one layer, 0: not counted
	}{
		{"no such image", brig.PushRequest{Name: "r.io/y", Tag: "1"}, nil, errs.NotFound, "An image does not exist locally with the tag: r.io/y", 0},
		{"no such tag", brig.PushRequest{Name: "r.io/x", Tag: "9"}, nil, errs.NotFound, "tag does not exist: r.io/x:9", 0},
		{"bad name", brig.PushRequest{Name: "r.io/X", Tag: "9"}, nil, errs.Invalid, "invalid reference format", 0},
		{"other platform", brig.PushRequest{Name: "r.io/x", Tag: "1", Platform: "linux/arm64"}, nil, errs.NotFound, "image with reference r.io/x:1 was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)", 0},
		{"denied", brig.PushRequest{Name: "r.io/x", Tag: "1"}, at("has", denied), errs.Forbidden, "denied: requested access", 1},
		{"denied late", brig.PushRequest{Name: "r.io/x", Tag: "1"}, at("put", denied), errs.Forbidden, "denied: requested access", 1},
		{"down for good", brig.PushRequest{Name: "r.io/x", Tag: "1"}, at("sent", down), errs.Unavailable, "507", maxUploadTries},
		{"manifest refused", brig.PushRequest{Name: "r.io/x", Tag: "1"}, at("manifest", errs.New(errs.Invalid, "manifest invalid: manifest invalid")), errs.Invalid, "manifest invalid", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, h := shop(t)
			tries := map[brig.Digest]int{}
			h.fault = func(stage string, dg brig.Digest) error {
				if stage == "has" {
					tries[dg]++
				}
				if c.fault == nil {
					return nil
				}
				return c.fault(stage, dg)
			}
			_, err := d.push(t.Context(), c.r)
			if errs.KindOf(err) != c.kind || err == nil || !strings.Contains(err.Error(), c.words) || len(h.manifests) != 0 {
				t.Errorf("%v (%v), manifests %v", err, errs.KindOf(err), h.manifests)
			}
			most := 0
			for _, n := range tries {
				most = max(most, n)
			}
			if most != c.tries {
				t.Errorf("tried %d times, want %d", most, c.tries)
			}
			if info, err := d.ImageGet(t.Context(), "r.io/x:1"); err != nil || len(info.Digests) != 1 {
				t.Errorf("the image has another name now: %+v, %v", info, err)
			}
			d.spoolEmpty(t)
		})
	}
}

// TestPushRetries breaks each upload several times, at different bytes; the push goes on, and says so.
func TestPushRetries(t *testing.T) {
	d, h := shop(t)
	broken := map[brig.Digest]int{}
	h.fault = func(stage string, dg brig.Digest) error {
		last := broken[dg] == maxUploadTries-1
		if h.cut = int64(broken[dg]*7 + 1); last {
			h.cut = 0
		}
		if stage == "sent" && !last {
			broken[dg]++
			return errs.New(errs.Unavailable, "write: connection reset by peer")
		}
		return nil
	}
	lines, err := d.push(t.Context(), brig.PushRequest{Name: "r.io/x", Tag: "1"})
	all := strings.Join(lines, "\n")
	if err != nil || strings.Count(all, "Retrying in 1 second") < 2*(maxUploadTries-1) || !strings.Contains(all, ": Pushed") || len(h.manifests) != 1 {
		t.Errorf("%v\n%s", err, all)
	}
}

// TestPushCanceled: the client goes away while a layer is on its way.
func TestPushCanceled(t *testing.T) {
	d, h := shop(t)
	ctx, cancel := context.WithCancel(t.Context())
	h.fault = func(stage string, _ brig.Digest) error {
		if stage == "put" {
			cancel()
		}
		return nil
	}
	if _, err := d.push(ctx, brig.PushRequest{Name: "r.io/x", Tag: "1"}); !errs.Is(err, errs.Canceled) || len(h.manifests) != 0 {
		t.Errorf("%v, %v", err, h.manifests)
	}
	if _, err := d.ImageRemove(t.Context(), "r.io/x:1", false, false); err != nil {
		t.Error(err)
	}
	if _, err := d.ImageRemove(t.Context(), "x:1", false, false); err != nil {
		t.Error(err)
	}
	d.clear(t)
	d.spoolEmpty(t)
}

// TestPushTwice has a layer twice in one image: it goes up once, and the manifest names it twice.
func TestPushTwice(t *testing.T) {
	d, h := newDock(t), newHarbour()
	d.Pusher = h
	d.publish("r.io/x:1", "same", "same")
	d.mustPull(t, "r.io/x:1")
	puts := 0
	h.fault = func(stage string, _ brig.Digest) error {
		if stage == "put" {
			puts++
		}
		return nil
	}
	if _, err := d.push(t.Context(), brig.PushRequest{Name: "r.io/x", Tag: "1"}); err != nil || puts != 2 {
		t.Errorf("%v, %d uploads, want the layer and the config", err, puts)
	}
}

func TestImport(t *testing.T) {
	gone := errors.New("the client is gone")
	for _, c := range []struct {
		name  string
		r     brig.ImportRequest
		body  io.Reader
		spoil func(*dock)
		kind  errs.Kind
		words string // "" : success
	}{
		{"good", brig.ImportRequest{Repository: "imp", Tag: "1", Message: "m", Platform: "freebsd/arm64"}, gzipped("a tar"), nil, 0, ""},
		{"without a name", brig.ImportRequest{}, gzipped("a tar"), nil, 0, ""},
		{"bad name", brig.ImportRequest{Repository: "Imp"}, gzipped("x"), nil, errs.Invalid, "invalid reference format"},
		{"cut off", brig.ImportRequest{Repository: "imp"}, io.MultiReader(io.LimitReader(gzipped("a tar"), 9), errReader{gone}), nil, errs.Internal, "the client is gone"},
		{"broken", brig.ImportRequest{Repository: "imp"}, io.LimitReader(gzipped("a tar"), 15), nil, errs.Internal, "EOF"},
		{"refused by the store", brig.ImportRequest{Repository: "imp"}, gzipped("a tar"), func(d *dock) {
			d.layers.fault = func(string, brig.Digest) error { return errs.New(errs.Invalid, "an entry leads outside") }
		}, errs.Invalid, "leads outside"},
		{"records", brig.ImportRequest{Repository: "imp"}, gzipped("a tar"), func(d *dock) { d.faulty.fault = func() error { return errors.New("boom") } }, errs.Internal, "boom"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDock(t)
			if c.spoil != nil {
				c.spoil(d)
			}
			var lines []string
			err := d.Import(t.Context(), c.r, c.body, func(p brig.Progress) { lines = append(lines, line(p)) })
			d.spoolEmpty(t)
			if c.words != "" {
				if err == nil || errs.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.words) || len(lines) != 0 {
					t.Errorf("%v (%v), report %q", err, errs.KindOf(err), lines)
				}
				d.clear(t)
				return
			}
			if err != nil || len(lines) != 1 {
				t.Fatalf("%v, report %q", err, lines)
			}
			info, err := d.ImageGet(t.Context(), lines[0])
			if err != nil || len(info.Layers) != 1 || info.Layers[0].Diff != brig.DigestOf([]byte("a tar")) || c.r.Platform != "" && info.Platform.String() != c.r.Platform {
				t.Errorf("%+v, %v", info, err)
			}
			if _, err := d.ImageRemove(t.Context(), lines[0], false, false); err != nil {
				t.Error(err)
			}
			d.clear(t)
		})
	}
}

func gzipped(content string) io.Reader {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, content)
	z.Close()
	return &b
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
