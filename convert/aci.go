package convert

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/podspec"
	"github.com/brigd/brig/internal/tarfs"
)

// stdio are the links that docker2aci adds where an image doesn't bring the names itself: Docker makes them in each container,
// an appc runtime doesn't. Output goes to the console since stdout may be a socket, which can't be opened through /proc.
var stdio = [...]struct{ name, target string }{
	{"dev/stdin", "/proc/self/fd/0"},
	{"dev/stdout", "/dev/console"},
	{"dev/stderr", "/dev/console"},
	{"dev/fd", "/proc/self/fd"},
}

// WriteACI writes a flat, uncompressed ACI: the manifest, then the tree under root as rootfs/, sorted, then the stdio links that
// the tree lacks. The same manifest and tree always give the same bytes. Since the tree is whole, a manifest with dependencies or a
// path whitelist is written without them. Invalid: manifest is no image manifest.
func (c *Converter) WriteACI(ctx context.Context, w io.Writer, manifest []byte, root string) error {
	if _, _, err := podspec.ParseImage(manifest); err != nil {
		return errs.Wrap(err, "write ACI: the manifest is not valid")
	}
	manifest, err := flatManifest(manifest)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	h := &tar.Header{Name: "manifest", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(manifest)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if _, err := tw.Write(manifest); err != nil {
		return err
	}
	if err := tarfs.PackTo(ctx, tw, root, tarfs.PackOptions{Prefix: "rootfs/"}); err != nil {
		return errs.Wrap(err, "write ACI of %s", root)
	}
	if err := writeStdio(tw, root); err != nil {
		return errs.Wrap(err, "write ACI of %s", root)
	}
	return tw.Close()
}

// flatManifest is a manifest without dependencies and path whitelist; the exact bytes if it has neither.
func flatManifest(manifest []byte) ([]byte, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(manifest, &top); err != nil {
		return nil, errs.As(errs.Invalid, err)
	}
	_, depends := top["dependencies"]
	_, hides := top["pathWhitelist"]
	if !depends && !hides {
		return manifest, nil
	}
	delete(top, "dependencies")
	delete(top, "pathWhitelist")
	b, err := json.Marshal(top)
	return b, errs.Wrap(err, "write ACI")
}

// writeStdio adds the missing links, unless /dev is something else than a directory.
func writeStdio(tw *tar.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if st, err := root.Lstat("dev"); err == nil && !st.IsDir() {
		return nil
	}
	for _, l := range stdio {
		_, err := root.Lstat(l.name)
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		h := &tar.Header{Name: "rootfs/" + l.name, Typeflag: tar.TypeSymlink, Linkname: l.target, Mode: 0o777, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
	}
	return nil
}
