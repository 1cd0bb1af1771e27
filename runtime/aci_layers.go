package runtime

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// ExportLayered writes a tar of ACIs, one for each layer of the image, from the lowest up: the order in which they can be imported.
// The same image and name give the same bytes in every brigd: layers are named by their digests in the image's manifest, whatever
// bytes are kept here. NotFound: nothing is written.
func (i *Images) ExportLayered(ctx context.Context, ref string, w io.Writer) error {
	img, l, err := i.borrow(ctx, ref)
	if err != nil {
		return err
	}
	defer l.release(ctx)
	if img, err = i.withTars(ctx, l, img); err != nil {
		return err
	}
	manifest, err := i.Blobs.Get(img.ACI.Manifest)
	if err != nil {
		return errs.Wrap(err, "appc manifest of image %s", shortDigest(img.ID))
	}
	from, err := i.toArchive(img)
	if err != nil {
		return err
	}
	if err := i.nameLayers(img, from.Layers); err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	err = i.ACIs.WriteLayers(ctx, from, manifest, func(name string) (io.WriteCloser, error) { return i.newACIEntry(tw, name) })
	if err != nil {
		return errs.Wrap(err, "write the ACIs of image %s", shortDigest(img.ID))
	}
	return tw.Close()
}

// nameLayers gives layers the digests that the image's manifest has for them.
func (i *Images) nameLayers(img *brig.Image, layers []brig.ArchiveLayer) error {
	if img.Manifest == "" {
		return nil
	}
	b, err := i.Blobs.Get(img.Manifest)
	if err != nil {
		return errs.Wrap(err, "manifest of image %s", shortDigest(img.ID))
	}
	var m struct {
		Layers []struct{ Digest brig.Digest }
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return errs.Wrap(err, "manifest of image %s", shortDigest(img.ID))
	}
	if len(m.Layers) != len(layers) {
		return nil
	}
	for n, l := range m.Layers {
		layers[n].Blob.Digest = l.Digest
	}
	return nil
}

// An aciEntry is one ACI on its way into a tar, which needs to know its size first: it is spooled to a nameless file.
type aciEntry struct {
	*os.File
	tw   *tar.Writer
	name string
}

func (i *Images) newACIEntry(tw *tar.Writer, name string) (io.WriteCloser, error) {
	f, err := os.CreateTemp(i.Spool, "layer-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &aciEntry{f, tw, strings.ReplaceAll(name, "/", "-") + ".aci"}, nil
}

// Close puts the ACI into the tar.
func (e *aciEntry) Close() (err error) {
	defer func() { err = errors.Join(err, e.File.Close()) }()
	size, err := e.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := e.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := e.tw.WriteHeader(&tar.Header{Name: e.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.Copy(e.tw, e.File)
	return err
}
