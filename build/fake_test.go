package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/tarfs"
)

// A world keeps trees in directories, and images and steps in maps. It is what all of a test's builds share.
type world struct {
	t   *testing.T
	dir string

	mu     sync.Mutex
	n      int
	bases  map[string]*brig.Base
	steps  map[string]brig.Step
	images map[brig.Digest]brig.BuiltImage
	trees  map[brig.RID]bool // that are neither committed nor discarded
	ran    []brig.StepRun
	ends   int
	held   map[string]int                               // cache directories: how many have it, -1 alone
	took   []string                                     // cache directories, in the order of taking
	script string                                       // what a RUN has found mounted at /dev/pipes
	gate   func(ctx context.Context, line string) error // called by RUN before its command
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("files change their owners: needs root")
	}
	w := &world{t: t, dir: t.TempDir(), bases: map[string]*brig.Base{}, steps: map[string]brig.Step{}, images: map[brig.Digest]brig.BuiltImage{}, trees: map[brig.RID]bool{}, held: map[string]int{}}
	w.base("bb", brig.ImageConfig{Cmd: []string{"sh"}}, map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\n", "etc/group": "root:x:0:\napp:x:1001:\nstaff:x:50:\n", "old/file": "old",
	})
	return w
}

// base adds an image with files.
func (w *world) base(ref string, c brig.ImageConfig, files map[string]string) {
	chain := w.name()
	for name, data := range files {
		write(w.t, filepath.Join(w.chain(chain), name), data)
	}
	w.bases[ref] = &brig.Base{ID: digest("image " + ref), Ref: ref, Chain: chain, Platform: host, Config: c, Layers: 1}
}

var host = brig.Platform{OS: "linux", Architecture: "amd64"}

func digest(s string) brig.Digest {
	sum := sha256.Sum256([]byte(s))
	return brig.Digest("sha256:" + hex.EncodeToString(sum[:]))
}

func write(t *testing.T, at, data string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(data), 0o644), os.Chmod(at, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func (w *world) name() brig.Digest {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	return digest(fmt.Sprint("chain ", w.n))
}

func (w *world) chain(d brig.Digest) string { return filepath.Join(w.dir, "chains", d.Hex()) }

func (w *world) Begin(context.Context) (Session, error) { return w, nil }

func (w *world) End(context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends++
}

func (w *world) Base(_ context.Context, ref, _ string, _ bool, _ map[string]brig.Auth, progress func(brig.Progress)) (*brig.Base, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.bases[ref]
	if b == nil {
		return nil, errs.New(errs.NotFound, "pull access denied for %s", ref)
	}
	return b, nil
}

func (w *world) Make(_ context.Context, b brig.BuiltImage) (brig.Digest, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	tags := b.Tags
	b.Tags = nil
	doc, err := json.Marshal(b)
	if err != nil {
		return "", err
	}
	b.Tags = tags
	id := digest(string(doc))
	w.images[id] = b
	return id, nil
}

func (w *world) Clone(ctx context.Context, chain brig.Digest) (brig.Tree, error) {
	t := brig.Tree{ID: brig.NewRID(), Parent: chain}
	t.Path = filepath.Join(w.dir, "trees", string(t.ID))
	w.mu.Lock()
	w.trees[t.ID] = true
	w.mu.Unlock()
	if err := os.MkdirAll(t.Path, 0o755); err != nil || chain == "" {
		return t, err
	}
	err := tarfs.Copy(ctx, t.Path, w.chain(chain))
	if err != nil {
		err = errors.Join(err, w.Discard(ctx, t))
	}
	return t, err
}

func (w *world) Commit(ctx context.Context, t brig.Tree) (brig.Digest, int64, error) {
	w.mu.Lock()
	delete(w.trees, t.ID)
	w.mu.Unlock()
	var now, before bytes.Buffer
	if err := tarfs.Pack(ctx, &now, t.Path, tarfs.PackOptions{}); err != nil {
		return "", 0, err
	}
	if t.Parent != "" {
		if err := tarfs.Pack(ctx, &before, w.chain(t.Parent), tarfs.PackOptions{}); err != nil {
			return "", 0, err
		}
	}
	if bytes.Equal(now.Bytes(), before.Bytes()) {
		return t.Parent, 0, os.RemoveAll(t.Path)
	}
	c := w.name()
	if err := os.MkdirAll(filepath.Join(w.dir, "chains"), 0o755); err != nil {
		return "", 0, err
	}
	return c, int64(now.Len()), os.Rename(t.Path, w.chain(c))
}

func (w *world) Discard(_ context.Context, t brig.Tree) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.trees, t.ID)
	return os.RemoveAll(t.Path)
}

func (w *world) View(_ context.Context, chain brig.Digest) (string, error) {
	return w.chain(chain), nil
}

func (w *world) Find(_ context.Context, key string) (*brig.Step, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := w.steps[key]; ok {
		return &s, nil
	}
	return nil, nil
}

func (w *world) Keep(_ context.Context, s brig.Step) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps[s.Key] = s
	return nil
}

func (w *world) History(_ context.Context, ref string) (list []brig.Step, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, ok := w.images[brig.Digest(ref)]
	if !ok {
		return nil, errs.New(errs.NotFound, "no such image: %s", ref)
	}
	chain := brig.Digest("")
	for _, base := range w.bases {
		if base.ID == b.Base {
			chain = base.Chain
			list = append(list, brig.Step{By: "base", Chain: chain, Own: true})
		}
	}
	for _, s := range b.Steps {
		if s.Chain != "" {
			chain = s.Chain
		}
		list = append(list, brig.Step{Created: s.Created, By: s.By, Chain: chain, Own: s.Chain != ""})
	}
	return list, nil
}

// Dir takes note of whom it has given a directory to, and waits for nobody: who is to wait gets an error.
func (w *world) Dir(_ context.Context, id string, exclusive bool, fill func(string) error) (string, func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.held[id]; n < 0 || n > 0 && exclusive {
		return "", nil, fmt.Errorf("%s is taken", id)
	}
	dir := filepath.Join(w.dir, "caches", hex.EncodeToString([]byte(id)))
	if _, err := os.Stat(dir); err != nil {
		if err := errors.Join(os.MkdirAll(dir, 0o755), fill(dir)); err != nil {
			return "", nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	w.took = append(w.took, id)
	add := 1
	if exclusive {
		add = -1
	}
	w.held[id] += add
	return dir, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.held[id] -= add
	}, nil
}

// RunStep carries out a small language: lines of echo, err, write FILE WORD, rm FILE, cat FILE, mode FILE, env NAME, exit CODE.
func (w *world) RunStep(ctx context.Context, r brig.StepRun) (int, error) {
	w.mu.Lock()
	w.ran = append(w.ran, r)
	w.n++
	id := digest(fmt.Sprint("container ", w.n)).Hex()
	gate := w.gate
	w.mu.Unlock()
	if r.Started != nil {
		r.Started(brig.ID(id))
	}
	text := r.Spec.Cmd[len(r.Spec.Cmd)-1]
	if gate != nil {
		if err := gate(ctx, text); err != nil {
			return 0, err
		}
	}
	for _, m := range r.Spec.Mounts {
		if m.Target == "/dev/pipes" {
			b, err := os.ReadFile(filepath.Join(m.Source, filepath.Base(text)))
			w.script = string(b)
			return 0, err
		}
	}
	at := func(name string) string {
		for _, m := range r.Spec.Mounts {
			if rest, ok := strings.CutPrefix(name+"/", m.Target+"/"); ok {
				return filepath.Join(m.Source, rest)
			}
		}
		return filepath.Join(r.Tree.Path, name)
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || ctx.Err() != nil {
			continue
		}
		var err error
		switch rest := strings.Join(f[1:], " "); f[0] {
		case "echo":
			fmt.Fprintln(r.Stdout, rest)
		case "err":
			fmt.Fprintln(r.Stderr, rest)
		case "write":
			if err = os.MkdirAll(filepath.Dir(at(f[1])), 0o755); err == nil {
				err = os.WriteFile(at(f[1]), []byte(f[2]), 0o644)
			}
		case "rm":
			err = os.RemoveAll(at(f[1]))
		case "cat":
			var b []byte
			b, err = os.ReadFile(at(f[1]))
			fmt.Fprintln(r.Stdout, string(b))
		case "env":
			for _, kv := range r.Spec.Env {
				if strings.HasPrefix(kv, f[1]+"=") {
					fmt.Fprintln(r.Stdout, kv)
				}
			}
		case "exit":
			n := 0
			fmt.Sscan(f[1], &n)
			return n, nil
		}
		if err != nil {
			fmt.Fprintln(r.Stderr, err)
			return 1, nil
		}
	}
	return 0, ctx.Err()
}

// runOf is the run of a command.
func (w *world) runOf(text string) brig.StepRun {
	w.t.Helper()
	for _, r := range w.ran {
		if r.Spec.Cmd[len(r.Spec.Cmd)-1] == text {
			return r
		}
	}
	w.t.Fatalf("%q hasn't been run", text)
	return brig.StepRun{}
}

// Decompress knows gzip.
func (w *world) Decompress(_ context.Context, r io.Reader, _ string) (io.ReadCloser, error) {
	var head [2]byte
	n, err := io.ReadFull(r, head[:])
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	all := io.MultiReader(bytes.NewReader(head[:n]), r)
	if head == [2]byte{0x1f, 0x8b} {
		return gzip.NewReader(all)
	}
	return io.NopCloser(all), nil
}

// A try is one build in a world, with all that it said.
type try struct {
	w     *world
	id    brig.Digest
	err   error
	text  string // both streams
	image brig.BuiltImage
}

func (w *world) builder() *Builder {
	return New(Config{Workshop: w, Runner: w, Archives: w, Host: host, Temp: w.dir})
}

// files writes a build context; names that end in a slash are directories, values that begin with "-> " are symbolic links.
func (w *world) files(files map[string]string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	for _, name := range slices.Sorted(mapKeys(files)) {
		at, data := filepath.Join(dir, name), files[name]
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			w.t.Fatal(err)
		}
		switch to, link := strings.CutPrefix(data, "-> "); {
		case link:
			if err := os.Symlink(to, at); err != nil {
				w.t.Fatal(err)
			}
		case strings.HasSuffix(name, "/"):
			if err := os.MkdirAll(at, 0o755); err != nil {
				w.t.Fatal(err)
			}
		default:
			write(w.t, at, data)
		}
	}
	return dir
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// try builds a Dockerfile with the files of a context.
func (w *world) try(dockerfile string, files map[string]string, change ...func(*brig.BuildRequest)) *try {
	w.t.Helper()
	all := map[string]string{"Dockerfile": dockerfile}
	for k, v := range files {
		all[k] = v
	}
	req := brig.BuildRequest{Context: w.files(all)}
	for _, c := range change {
		c(&req)
	}
	return w.run(w.t.Context(), w.builder(), req)
}

func (w *world) run(ctx context.Context, b *Builder, req brig.BuildRequest) *try {
	t := &try{w: w}
	var said strings.Builder
	t.id, t.err = b.Build(ctx, req, func(l brig.BuildLine) { said.WriteString(l.Out + l.Err) })
	t.text = said.String()
	w.mu.Lock()
	defer w.mu.Unlock()
	t.image = w.images[t.id]
	if len(w.trees) > 0 {
		w.t.Errorf("%d trees are left", len(w.trees))
	}
	return t
}

// ok wants success.
func (t *try) ok() *try {
	t.w.t.Helper()
	if t.err != nil {
		t.w.t.Fatalf("%v\n%s", t.err, t.text)
	}
	return t
}

// top is the directory of the image's file system.
func (t *try) top() string {
	chain := brig.Digest("")
	for _, b := range t.w.bases {
		if b.ID == t.image.Base {
			chain = b.Chain
		}
	}
	for _, s := range t.image.Steps {
		if s.Chain != "" {
			chain = s.Chain
		}
	}
	return t.w.chain(chain)
}

// list shows what is at paths: type and mode, owner, content or target.
func (t *try) list(under string) string {
	t.w.t.Helper()
	var out []string
	top := t.top()
	err := filepath.WalkDir(filepath.Join(top, under), func(at string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, at)
		uid, gid := owner(fi)
		line := fmt.Sprintf("/%s %v %d:%d", rel, fi.Mode(), uid, gid)
		switch {
		case fi.Mode().IsRegular():
			b, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", b)
		case fi.Mode()&os.ModeSymlink != 0:
			to, _ := os.Readlink(at)
			line += " -> " + to
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.w.t.Fatal(err)
	}
	return strings.Join(out, "\n")
}
