package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// A recipe is a layer that holds the files of Debian packages.
type recipe struct {
	name     string
	packages []string
}

// large are the layers of Large above Debian's own, chosen by what they are like: many small files, few huge ones, and bytes that
// compress well or not at all. The names are without versions, so that the next Debian has them too.
func large() []recipe {
	return []recipe{
		{"python", []string{"python3-numpy", "python3-scipy", "python3-sympy", "python3-pandas", "python3-django", "python3-matplotlib"}},
		{"tex", []string{"texlive-latex-extra", "texlive-latex-recommended"}},
		{"fonts", []string{"fonts-noto-cjk", "fonts-noto-cjk-extra", "fonts-noto-extra"}},
		{"data", []string{"fluid-soundfont-gm", "gimp-data"}},
		{"browsers", []string{"firefox-esr", "chromium"}},
	}
}

// Large is an image of about 900 MB, 1.9 GB and 34,000 files when it is extracted, in six layers: Debian and the contents of large
// packages. It is made as Many is.
func Large(ctx context.Context, cache string, log io.Writer) (v1.Image, error) {
	base, err := Debian(ctx, cache, log)
	if err != nil {
		return nil, err
	}
	layers, err := base.Layers()
	if err != nil {
		return nil, err
	}
	more, err := packaged(ctx, filepath.Join(cache, "large"), large(), log)
	if err != nil {
		return nil, fmt.Errorf("make the large image: %w", err)
	}
	return image(false, runtime.GOARCH, v1.Config{Env: []string{path}, Cmd: []string{"bash"}}, append(layers, more...)...)
}

const manyLayers = 65

// Many is an image of 65 layers and about 10 MB: busybox and 64 small packages of Debian's base system, each a layer. The packages come
// from the host's apt (apt-get update must have run) and are kept as layers in the folder cache; what a broken run has made is
// used again. log gets a line for each layer that is made.
func Many(ctx context.Context, cache string, log io.Writer) (v1.Image, error) {
	names, err := smallPackages(ctx, manyLayers-1)
	if err != nil {
		return nil, fmt.Errorf("make the image of %d layers: %w", manyLayers, err)
	}
	var recipes []recipe
	for _, n := range names {
		recipes = append(recipes, recipe{n, []string{n}})
	}
	tree, err := busyboxTree()
	if err != nil {
		return nil, err
	}
	base, err := gzipped(tree)
	if err != nil {
		return nil, err
	}
	more, err := packaged(ctx, filepath.Join(cache, "many"), recipes, log)
	if err != nil {
		return nil, fmt.Errorf("make the image of %d layers: %w", manyLayers, err)
	}
	return image(false, runtime.GOARCH, v1.Config{Env: []string{path}, Cmd: []string{"sh"}}, append([]v1.Layer{base}, more...)...)
}

// smallPackages chooses n packages of Debian's base system between 10 and 400 kB, the first ones by name.
func smallPackages(ctx context.Context, n int) ([]string, error) {
	out, err := output(ctx, "", "apt-cache", "dumpavail")
	if err != nil {
		return nil, err
	}
	var names []string
	for stanza := range strings.SplitSeq(string(out), "\n\n") {
		f := map[string]string{}
		for line := range strings.Lines(stanza) {
			if k, v, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(k, " ") {
				f[k] = strings.TrimSpace(v)
			}
		}
		size, err := strconv.Atoi(f["Size"])
		if err == nil && 10_000 < size && size < 400_000 && slices.Contains([]string{"required", "important", "standard"}, f["Priority"]) {
			names = append(names, f["Package"])
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) < n {
		return nil, fmt.Errorf("apt-cache dumpavail lists %d small packages of the base system, want %d: has apt-get update been run?", len(names), n)
	}
	return names[:n], nil
}

// packaged makes those of the layers that are not in dir yet.
func packaged(ctx context.Context, dir string, recipes []recipe, log io.Writer) ([]v1.Layer, error) {
	rel, err := osRelease("VERSION_CODENAME")
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var out []v1.Layer
	for _, r := range recipes {
		base := filepath.Join(dir, r.name+"-"+rel+"-"+runtime.GOARCH)
		l, err := openCached(base)
		if errors.Is(err, os.ErrNotExist) {
			fmt.Fprintf(log, "layer %s, of %s\n", r.name, strings.Join(r.packages, " "))
			l, err = makeCached(ctx, dir, base, r.packages)
		}
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", r.name, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// cached is a gzip layer in a file, whose digests are in another beside it: reading 900 MB takes longer than some of what is measured.
type cached struct {
	file string
	meta struct {
		Blob, Diff v1.Hash
		Size       int64 // of the file, in bytes
	}
}

func openCached(base string) (*cached, error) {
	l := &cached{file: base + ".tar.gz"}
	b, err := os.ReadFile(base + ".json")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &l.meta); err != nil {
		return nil, fmt.Errorf("%s.json: %w", base, err)
	}
	info, err := os.Stat(l.file)
	if err == nil && info.Size() != l.meta.Size {
		err = fmt.Errorf("%s has %d bytes, %d were written: remove it, and its .json", l.file, info.Size(), l.meta.Size)
	}
	return l, err
}

// makeCached downloads packages, unpacks them and packs them up again. The file that names the digests comes last.
func makeCached(ctx context.Context, dir, base string, packages []string) (*cached, error) {
	tmp, err := os.MkdirTemp(dir, "making-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	root := filepath.Join(tmp, "root")
	// In Debian since 12 these are links, which packages need not know: dpkg follows them. They belong to the base's layer.
	for _, d := range []string{"bin", "lib", "lib64", "sbin"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(root, "usr", d), 0o755), os.Symlink("usr/"+d, filepath.Join(root, d))); err != nil {
			return nil, err
		}
	}
	if _, err := output(ctx, tmp, "apt-get", append([]string{"-q", "-o", "APT::Sandbox::User=root", "download"}, packages...)...); err != nil {
		return nil, err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != len(packages) {
		return nil, fmt.Errorf("apt-get download gave %d files for %d packages (%v)", len(debs), len(packages), err)
	}
	for _, deb := range debs {
		if err := unpack(ctx, deb, root); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{"bin", "lib", "lib64", "sbin"} {
		if err := os.Remove(filepath.Join(root, d)); err != nil {
			return nil, err
		}
		os.Remove(filepath.Join(root, "usr", d)) // if nothing came into it
	}
	l := &cached{file: base + ".tar.gz"}
	if err := l.pack(ctx, root); err != nil {
		return nil, err
	}
	b, err := json.Marshal(l.meta)
	if err != nil {
		return nil, err
	}
	part := filepath.Join(tmp, "meta")
	return l, errors.Join(os.WriteFile(part, b, 0o644), os.Rename(part, base+".json"))
}

// unpack extracts a package over what is in root, through links to folders as dpkg does and dpkg-deb -x does not.
func unpack(ctx context.Context, deb, root string) error {
	var said bytes.Buffer
	from := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	to := exec.CommandContext(ctx, "tar", "-C", root, "--keep-directory-symlink", "-xpf", "-")
	from.Stderr, to.Stdout, to.Stderr = &said, &said, &said
	pipe, err := from.StdoutPipe()
	if err != nil {
		return err
	}
	to.Stdin = pipe
	if err := from.Start(); err != nil {
		return err
	}
	err = to.Run()
	pipe.Close()
	if err := errors.Join(err, from.Wait()); err != nil {
		return fmt.Errorf("unpack %s: %w\n%s", filepath.Base(deb), err, tail(said.String(), 20))
	}
	return nil
}

// pack writes the tree at root to l.file, and sets its digests.
func (l *cached) pack(ctx context.Context, root string) error {
	f, err := os.Create(l.file)
	if err != nil {
		return err
	}
	defer f.Close()
	blob, diff := sha256.New(), sha256.New()
	z, err := gzip.NewWriterLevel(io.MultiWriter(f, blob), gzip.DefaultCompression)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "tar", "-C", root, "--numeric-owner", "--sort=name", "-cf", "-", ".")
	cmd.Stdout, cmd.Stderr = io.MultiWriter(z, diff), &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("tar: %w\n%s", err, tail(said.String(), 20))
	}
	if err := errors.Join(z.Close(), f.Sync()); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	l.meta.Blob, l.meta.Diff, l.meta.Size = sum(blob), sum(diff), info.Size()
	return nil
}

func sum(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// output runs a command in dir; its error ends with what the command said.
func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, tail(said.String(), 20))
	}
	return out.Bytes(), nil
}

func (l *cached) Digest() (v1.Hash, error)             { return l.meta.Blob, nil }
func (l *cached) DiffID() (v1.Hash, error)             { return l.meta.Diff, nil }
func (l *cached) Size() (int64, error)                 { return l.meta.Size, nil }
func (l *cached) MediaType() (types.MediaType, error)  { return types.DockerLayer, nil }
func (l *cached) Compressed() (io.ReadCloser, error)   { return os.Open(l.file) }
func (l *cached) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }
