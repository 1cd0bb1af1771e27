package runtime

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/blobs"
	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/records"
)

// imgLayers keeps chains in memory, with the rules of the seam.
type imgLayers struct {
	mu     sync.Mutex
	chains map[brig.Digest]brig.Digest // to parent
	based  map[brig.Digest]int         // containers that stand on a chain
	stuck  map[brig.Digest]bool        // Drop fails
	synced bool                        // nothing was applied since the last Sync
	fault  func(stage string, chain brig.Digest) error
}

func (l *imgLayers) at(stage string, chain brig.Digest) error {
	l.mu.Lock()
	f := l.fault
	l.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(stage, chain)
}

func (l *imgLayers) Has(ctx context.Context, chain brig.Digest) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.chains[chain]
	return ok, ctx.Err()
}

func (l *imgLayers) Apply(ctx context.Context, parent, chain, diff brig.Digest, tar io.Reader, below func(context.Context) error) (brig.Applied, error) {
	if has, err := l.Has(ctx, chain); has || err != nil {
		return brig.Applied{Diff: diff, Size: 1}, err
	}
	if err := l.at("apply", chain); err != nil {
		return brig.Applied{}, err
	}
	h := sha256.New()
	n, err := io.Copy(h, tar)
	if err != nil {
		return brig.Applied{}, err
	}
	if err := l.at("applied", chain); err != nil {
		return brig.Applied{}, err
	}
	if got := brig.Digest("sha256:" + hex.EncodeToString(h.Sum(nil))); got != diff {
		return brig.Applied{}, errs.New(errs.Invalid, "the layer's tar has the digest %s, not %s", got, diff)
	}
	if below != nil {
		if err := below(ctx); err != nil {
			return brig.Applied{}, err
		}
	}
	if has, _ := l.Has(ctx, parent); parent != "" && !has {
		return brig.Applied{}, errs.New(errs.NotFound, "no chain %s", parent)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = false
	l.chains[chain] = parent
	return brig.Applied{Diff: diff, Size: n}, ctx.Err()
}

func (l *imgLayers) Drop(_ context.Context, chain brig.Digest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stuck[chain] {
		return fmt.Errorf("chain %s is busy", chain)
	}
	for _, parent := range l.chains {
		if parent == chain {
			return errs.New(errs.Conflict, "a chain stands on %s", chain)
		}
	}
	if l.based[chain] > 0 {
		return errs.New(errs.Conflict, "a container stands on %s", chain)
	}
	delete(l.chains, chain)
	return nil
}

func (l *imgLayers) Sweep(_ context.Context, live brig.Live) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.chains, func(c, _ brig.Digest) bool { return !slices.Contains(live.Chains, c) })
	return nil
}

func (l *imgLayers) Driver() (string, [][2]string) { return "memory", nil }

func (l *imgLayers) Sync(ctx context.Context, _ ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.synced = true
	return ctx.Err()
}

func (l *imgLayers) list() []brig.Digest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.chains))
}

// imgRoots keeps clones in memory.
type imgRoots struct {
	layers *imgLayers
	mu     sync.Mutex
	roots  map[brig.RID]brig.Digest
}

func (r *imgRoots) Prepare(ctx context.Context, id brig.RID, parent brig.Digest, _ int64) error {
	if has, _ := r.layers.Has(ctx, parent); parent != "" && !has {
		return errs.New(errs.NotFound, "no chain %s", parent)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.roots[id] = parent
	r.layers.mu.Lock()
	defer r.layers.mu.Unlock()
	r.layers.based[parent]++
	return ctx.Err()
}

func (r *imgRoots) Mount(_ context.Context, id brig.RID) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return "tree of " + string(r.roots[id]), nil
}

func (r *imgRoots) Unmount(context.Context, brig.RID) error { return nil }

func (r *imgRoots) Diff(context.Context, brig.RID) ([]brig.Change, error) { return nil, nil }

func (r *imgRoots) Remove(_ context.Context, id brig.RID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if parent, ok := r.roots[id]; ok {
		r.layers.mu.Lock()
		r.layers.based[parent]--
		r.layers.mu.Unlock()
	}
	delete(r.roots, id)
	return nil
}

// imgRegistry serves remotes by normalized reference, and blobs.
type imgRegistry struct {
	mu      sync.Mutex
	remotes map[string]*brig.Remote
	bytes   map[brig.Digest][]byte
	opened  map[brig.Digest][]int64 // offsets that were asked for
	ranges  bool                    // it does ranges
	fault   func(stage string, d brig.Digest) error
	body    func(d brig.Digest, nth int, rest []byte) io.Reader // nil: all of it
}

func (r *imgRegistry) Resolve(ctx context.Context, ref, _ string, _ brig.Auth) (*brig.Remote, error) {
	r.mu.Lock()
	remote, fault := r.remotes[ref], r.fault
	r.mu.Unlock()
	if fault != nil {
		if err := fault("resolve", ""); err != nil {
			return nil, err
		}
	}
	if remote == nil {
		return nil, errs.New(errs.NotFound, "manifest for %s not found: manifest unknown", ref)
	}
	return remote, ctx.Err()
}

func (r *imgRegistry) Layer(ctx context.Context, _ *brig.Remote, d brig.Descriptor, offset int64) (io.ReadCloser, error) {
	r.mu.Lock()
	b, fault, body := r.bytes[d.Digest], r.fault, r.body
	r.opened[d.Digest] = append(r.opened[d.Digest], offset)
	nth := len(r.opened[d.Digest])
	r.mu.Unlock()
	if fault != nil {
		if err := fault("layer", d.Digest); err != nil {
			return nil, err
		}
	}
	if b == nil {
		return nil, errs.New(errs.NotFound, "blob unknown")
	}
	rest := b[min(offset, int64(len(b))):]
	var rd io.Reader = bytes.NewReader(rest)
	if body != nil {
		rd = body(d.Digest, nth, rest)
	}
	return io.NopCloser(ctxReader{ctx, rd}), nil
}

func (r *imgRegistry) Span(ctx context.Context, remote *brig.Remote, d brig.Descriptor, from, to int64) (io.ReadCloser, int64, error) {
	if !r.ranges {
		if from > 0 {
			return nil, 0, errs.New(errs.NotImplemented, "no ranges")
		}
		body, err := r.Layer(ctx, remote, d, 0)
		return body, d.Size, err
	}
	body, err := r.Layer(ctx, remote, d, from)
	if err != nil {
		return nil, 0, err
	}
	return io.NopCloser(io.LimitReader(body, to-from)), to, nil
}

func (r *imgRegistry) Tags(_ context.Context, repository string, _ brig.Auth) (tags []string, err error) {
	for ref := range r.remotes {
		if name, tag, ok := strings.Cut(ref, ":"); ok && name == repository {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags, nil
}

// imgConfig is the part of an image config that the tests use.
type imgConfig struct {
	Created      string              `json:"created"`
	Architecture string              `json:"architecture"`
	OS           string              `json:"os"`
	Labels       map[string]string   `json:"labels"`
	RootFS       imgRootFS           `json:"rootfs"`
	History      []brig.HistoryEntry `json:"history"`
}

type imgRootFS struct {
	Diffs []brig.Digest `json:"diff_ids"`
}

type imgConverter struct {
	fault func() error
	write func(manifest string) // called by WriteACI; may be nil
}

func (imgConverter) ImageConfig(config []byte) (*brig.Document, error) {
	var c imgConfig
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, errs.As(errs.Invalid, err)
	}
	return &brig.Document{Created: c.Created, Platform: brig.Platform{OS: c.OS, Architecture: c.Architecture}, Diffs: c.RootFS.Diffs,
		Config: brig.ImageConfig{Labels: c.Labels}, History: c.History}, nil
}

func (c *imgConverter) ACIManifest(config []byte, ref string, _ brig.Digest) (string, []byte, error) {
	if c.fault != nil {
		if err := c.fault(); err != nil {
			return "", nil, err
		}
	}
	return "aci/" + ref, []byte("aci of " + string(config)), nil
}

func (c *imgConverter) WriteACI(_ context.Context, w io.Writer, manifest []byte, root string) error {
	if c.write != nil {
		c.write(string(manifest))
	}
	_, err := fmt.Fprintf(w, "%s on %s", manifest, root)
	return err
}

// imgArchives has an archive format of its own: JSON.
type imgArchives struct{}

type jsonArchive []struct {
	Config, Manifest []byte
	Refs             []string
	Layers           []struct {
		Blob  brig.Descriptor
		Diff  brig.Digest
		Bytes []byte
	}
}

func (imgArchives) ReadArchive(ctx context.Context, r io.Reader, spool string, _ ...brig.Platform) ([]brig.ArchiveImage, func() error, error) {
	var a jsonArchive
	if err := json.NewDecoder(ctxReader{ctx, r}).Decode(&a); err != nil {
		return nil, nil, errs.As(errs.Invalid, err)
	}
	dir, err := os.MkdirTemp(spool, "archive-")
	var out []brig.ArchiveImage
	for _, x := range a {
		img := brig.ArchiveImage{Config: x.Config, Manifest: x.Manifest, Refs: x.Refs}
		for n, l := range x.Layers {
			layer := brig.ArchiveLayer{Blob: l.Blob, Diff: l.Diff, Open: func() (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(l.Bytes)), nil
			}}
			// As the converter does, give what is verified as a file: then it must be taken as one.
			if brig.DigestOf(l.Bytes) == l.Blob.Digest && err == nil {
				layer.File = filepath.Join(dir, brig.DigestOf(x.Config).Hex()+strconv.Itoa(n))
				layer.Open = func() (io.ReadCloser, error) { return nil, errors.New("opened, though there is a file") }
				err = os.WriteFile(layer.File, l.Bytes, 0o600)
			}
			img.Layers = append(img.Layers, layer)
		}
		out = append(out, img)
	}
	return out, func() error { return os.RemoveAll(dir) }, err
}

func (imgArchives) WriteArchive(_ context.Context, w io.Writer, images []brig.ArchiveImage) error {
	a := make(jsonArchive, len(images))
	for n, img := range images {
		a[n].Config, a[n].Manifest, a[n].Refs = img.Config, img.Manifest, img.Refs
		for _, l := range img.Layers {
			r, err := l.Open()
			if err != nil {
				return err
			}
			b, err := io.ReadAll(r)
			r.Close()
			if err != nil {
				return err
			}
			a[n].Layers = append(a[n].Layers, struct {
				Blob  brig.Descriptor
				Diff  brig.Digest
				Bytes []byte
			}{l.Blob, l.Diff, b})
		}
	}
	return json.NewEncoder(w).Encode(a)
}

func (imgArchives) Decompress(_ context.Context, r io.Reader, mediaType string) (io.ReadCloser, error) {
	if mediaType == "plain" || mediaType == typeLayerPlain {
		return io.NopCloser(r), nil
	}
	return gzip.NewReader(r)
}

// faultyRecords fails a Put when told to.
type faultyRecords struct {
	Records
	fault func() error
}

func (f *faultyRecords) Put(ctx context.Context, puts, deletes []brig.Record) error {
	if f.fault != nil {
		if err := f.fault(); err != nil {
			return err
		}
	}
	return f.Records.Put(ctx, puts, deletes)
}

// A dock is an Images with everything around it.
type dock struct {
	*Images
	steps    *Steps
	trees    *imgTrees
	dir      string
	layers   *imgLayers
	roots    *imgRoots
	registry *imgRegistry
	conv     *imgConverter
	store    *records.Store
	faulty   *faultyRecords
}

func newDock(t *testing.T) *dock {
	t.Helper()
	d := &dock{dir: t.TempDir(), conv: &imgConverter{},
		layers:   &imgLayers{chains: map[brig.Digest]brig.Digest{}, based: map[brig.Digest]int{}, stuck: map[brig.Digest]bool{}},
		registry: &imgRegistry{remotes: map[string]*brig.Remote{}, bytes: map[brig.Digest][]byte{}, opened: map[brig.Digest][]int64{}}}
	d.roots = &imgRoots{layers: d.layers, roots: map[brig.RID]brig.Digest{}}
	d.trees = newImgTrees(t, d.roots)
	d.open(t)
	t.Cleanup(func() { d.shut() })
	return d
}

// open starts over what is on disk, as brigd does at start-up.
func (d *dock) open(t *testing.T) {
	t.Helper()
	var err error
	if d.store, err = records.Open(filepath.Join(d.dir, "brig.db")); err != nil {
		t.Fatal(err)
	}
	b, err := blobs.Open(filepath.Join(d.dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	d.faulty = &faultyRecords{Records: d.store}
	d.Images, err = NewImages(t.Context(), ImagesConfig{Layers: d.layers, Syncer: d.layers, RootFS: d.trees, Trees: d.trees, Registry: d.registry, Converter: d.conv, Archives: imgArchives{},
		Records: d.faulty, Blobs: b, Bus: NewBus(1000), Log: slog.New(slog.DiscardHandler), Spool: filepath.Join(d.dir, "spool"),
		Host: brig.Platform{OS: "linux", Architecture: "amd64"}, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if d.steps, err = NewSteps(t.Context(), d.Images, d.trees); err != nil {
		t.Fatal(err)
	}
	if err := d.layers.Sweep(t.Context(), brig.Live{Chains: d.Live()}); err != nil {
		t.Fatal(err)
	}
	d.Start()
}

func (d *dock) shut() {
	d.steps.Close()
	d.Close()
	d.store.Close()
}

// publish puts an image into the registry; each layer is given as its content. It returns the image's ID.
func (d *dock) publish(ref string, layers ...string) brig.Digest {
	return d.publishFor("amd64", ref, layers...)
}

func (d *dock) publishFor(arch, ref string, layers ...string) brig.Digest {
	c := imgConfig{Created: "2026-01-02T03:04:05Z", Architecture: arch, OS: "linux", Labels: map[string]string{"of": ref}}
	remote := &brig.Remote{Ref: ref}
	for _, content := range layers {
		c.RootFS.Diffs = append(c.RootFS.Diffs, brig.DigestOf([]byte(content)))
		c.History = append(c.History, brig.HistoryEntry{CreatedBy: "ADD " + content[:1]}, brig.HistoryEntry{CreatedBy: "ENV", Empty: true})
		desc := d.blob(content)
		remote.Layers = append(remote.Layers, desc)
	}
	remote.Config, _ = json.Marshal(c)
	remote.Manifest, _ = json.Marshal(map[string]any{"config": map[string]any{"digest": brig.DigestOf(remote.Config)}, "layers": remote.Layers})
	remote.Digest = brig.DigestOf(remote.Manifest)
	named, err := pullRef(ref, "")
	if err != nil {
		panic(err)
	}
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	d.registry.remotes[named.String()] = remote
	d.registry.remotes[digestRef(named, remote.Digest)] = remote
	return brig.DigestOf(remote.Config)
}

// blob gives the registry a gzipped layer.
func (d *dock) blob(content string) brig.Descriptor {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, content)
	z.Close()
	desc := brig.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: brig.DigestOf(b.Bytes()), Size: int64(b.Len())}
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	d.registry.bytes[desc.Digest] = b.Bytes()
	return desc
}

// pull pulls and returns the report as lines "id: status", those of bytes left out.
func (d *dock) pull(ctx context.Context, ref string) ([]string, error) {
	var lines []string
	err := d.Pull(ctx, brig.PullRequest{Name: ref}, func(p brig.Progress) {
		if p.Total == 0 {
			lines = append(lines, line(p))
		}
	})
	return lines, err
}

func line(p brig.Progress) string {
	switch {
	case p.Stream != "":
		return strings.TrimSuffix(p.Stream, "\n")
	case p.ID == "":
		return p.Status
	}
	return p.ID + ": " + p.Status
}

func (d *dock) mustPull(t *testing.T, refs ...string) {
	t.Helper()
	for _, ref := range refs {
		if _, err := d.pull(t.Context(), ref); err != nil {
			t.Fatalf("pull %s: %v", ref, err)
		}
	}
}

// clear asserts that nothing is left anywhere.
func (d *dock) clear(t *testing.T) {
	t.Helper()
	if l := d.layers.list(); len(l) != 0 {
		t.Errorf("chains stay: %v", l)
	}
	if b, _ := d.Blobs.List(); len(b) != 0 {
		t.Errorf("blobs stay: %v", b)
	}
	for _, dir := range []string{"blobs/tmp", "blobs/parts", "spool/load"} {
		if f, err := os.ReadDir(filepath.Join(d.dir, dir)); err != nil || len(f) != 0 {
			t.Errorf("%s: %v stay, %v", dir, f, err)
		}
	}
	for _, kind := range []string{kindImage, kindRef, kindStep, kindCacheDir} {
		if r, err := d.store.List(t.Context(), kind); err != nil || len(r) != 0 {
			t.Errorf("records stay: %v, %v", r, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.flights) != 0 || len(d.known) != 0 || len(d.images) != 0 || len(d.refs) != 0 || len(d.roots.roots) != 0 {
		t.Errorf("memory stays: %v %v %v %v %v", d.flights, d.known, d.images, d.refs, d.roots.roots)
	}
	if c, b := d.chains.all(), d.blobs.all(); len(c) != 0 || len(b) != 0 {
		t.Errorf("holds stay: %v %v", c, b)
	}
	if d.pulling.free != maxDownloads || d.loading.free != maxDownloads || d.applying.free != maxApplies {
		t.Errorf("slots are lost: %d, %d, %d free", d.pulling.free, d.loading.free, d.applying.free)
	}
}
