package convert

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/podspec"
	"github.com/brigd/brig/internal/tarfs"
)

// Squash extracts an image's layers on top of each other into the empty directory dir, whiteouts carried out. It needs root where layers
// have owners or devices. The layers' bytes are taken as they are: who opens them verifies them.
func (c *Converter) Squash(ctx context.Context, img brig.ArchiveImage, dir string) error {
	for _, l := range img.Layers {
		if err := c.squashLayer(ctx, l, dir); err != nil {
			return errs.Wrap(err, "extract layer %s", l.Diff)
		}
	}
	return nil
}

func (c *Converter) squashLayer(ctx context.Context, l brig.ArchiveLayer, dir string) error {
	f, err := l.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := c.Decompress(ctx, f, l.Blob.MediaType)
	if err != nil {
		return err
	}
	defer plain.Close()
	_, err = tarfs.Extract(ctx, dir, plain, tarfs.Options{Whiteouts: tarfs.Apply})
	return err
}

// WriteLayered writes an image as one uncompressed ACI for each layer, with the manifest that ACIManifest makes of ref and manifest.
// WriteLayers says more.
func (c *Converter) WriteLayered(ctx context.Context, img brig.ArchiveImage, ref string, manifest brig.Digest, create func(name string) (io.WriteCloser, error)) error {
	_, b, err := c.ACIManifest(img.Config, ref, manifest)
	if err != nil {
		return err
	}
	return c.WriteLayers(ctx, img, b, create)
}

// WriteLayers writes an image as one uncompressed ACI for each layer, from the lowest up, each to what create gives for its name, as
// docker2aci does without squashing: the topmost has the app and depends on all others, and the path whitelist of each names all that
// is to be seen with those below it, so that nothing that a whiteout removed comes back. manifest is that of the flat ACI; dependencies
// and whitelist that it has are replaced. The same layers and manifest always give the same bytes. Layers are opened twice.
func (c *Converter) WriteLayers(ctx context.Context, img brig.ArchiveImage, manifest []byte, create func(name string) (io.WriteCloser, error)) error {
	im, _, err := podspec.ParseImage(manifest)
	if err != nil {
		return errs.Wrap(err, "write ACIs: the manifest is not valid")
	}
	top := *im
	if len(img.Layers) == 0 {
		return errs.New(errs.Invalid, "the image has no layers: there is nothing to write one ACI each for")
	}
	top.Dependencies, top.PathWhitelist = nil, nil
	base, seen := top.Name, newSeen()
	for n, l := range img.Layers {
		im := lowerManifest(&top)
		last := n == len(img.Layers)-1
		if last {
			im = top
		}
		if im.Name, err = layerName(base, l, last); err != nil {
			return err
		}
		if err := c.writeLayer(ctx, l, im, seen, last, create); err != nil {
			return errs.Wrap(err, "write the ACI of layer %s", l.Diff)
		}
		if !last {
			top.Dependencies = append(top.Dependencies, types.Dependency{ImageName: im.Name, Labels: im.Labels})
		}
	}
	return nil
}

// lowerManifest is what a layer other than the topmost has: no app, and labels that say for which machine it is.
func lowerManifest(top *schema.ImageManifest) schema.ImageManifest {
	im := schema.ImageManifest{ACKind: top.ACKind, ACVersion: top.ACVersion}
	for _, l := range top.Labels {
		if l.Name == "os" || l.Name == "arch" {
			im.Labels = append(im.Labels, l)
		}
	}
	return im
}

// layerName is the image's name and the digest of the layer as it is stored. docker2aci turns the digest's colon into a dash, but for the
// topmost layer, where the alphabet of AC identifiers makes another sign of it.
func layerName(base types.ACIdentifier, l brig.ArchiveLayer, last bool) (types.ACIdentifier, error) {
	d := string(cmp.Or(l.Blob.Digest, l.Diff))
	if !last {
		d = strings.Replace(d, ":", "-", 1)
	}
	s, err := types.SanitizeACIdentifier(base.String() + "-" + d)
	if err != nil {
		return "", errs.New(errs.Invalid, "%s makes no appc name: %w", base, err)
	}
	return types.ACIdentifier(s), nil
}

// seen is what an image shows, layer by layer.
type seen struct {
	paths map[string]bool // absolute; true: a directory
	top   bool            // the layer looked at last has an entry for the root itself
}

func newSeen() *seen { return &seen{paths: map[string]bool{}} }

// add lays one layer on top. Whiteouts, and files in the place of directories, hide what lower layers brought, wherever they stand.
func (s *seen) add(entries []tar.Header) {
	own, hidden, opaque := map[string]bool{}, map[string]bool{}, map[string]bool{}
	s.top = false
	for i := range entries {
		h := &entries[i]
		name := "/" + cleanName(h.Name)
		dir, file := path.Split(name)
		dir = path.Clean(dir)
		switch {
		case name == "/":
			s.top = true
		case file == ".wh..wh..opq":
			opaque[dir] = true
		case strings.HasPrefix(file, ".wh..wh."):
		case strings.HasPrefix(file, ".wh."):
			hidden[path.Join(dir, file[len(".wh."):])] = true
		default:
			own[name] = h.Typeflag == tar.TypeDir
			if !own[name] {
				opaque[name] = true
			}
		}
	}
	maps.DeleteFunc(s.paths, func(p string, _ bool) bool { return covered(p, hidden, opaque) })
	maps.Copy(s.paths, own)
	for name := range own { // directories that no entry names are there all the same, and stay when they are empty
		for p := path.Dir(name); p != "/"; p = path.Dir(p) {
			if _, ok := s.paths[p]; !ok {
				s.paths[p] = true
			}
		}
	}
}

// covered reports whether p or one of its parents is hidden, or one of its parents opaque.
func covered(p string, hidden, opaque map[string]bool) bool {
	if hidden[p] {
		return true
	}
	for p != "/" {
		p = path.Dir(p)
		if hidden[p] || opaque[p] {
			return true
		}
	}
	return false
}

// links are the stdio links that the whole image lacks; they become part of it.
func (s *seen) links() (missing []*tar.Header) {
	if isDir, ok := s.paths["/dev"]; ok && !isDir {
		return nil
	}
	for _, l := range stdio {
		if _, ok := s.paths["/"+l.name]; ok {
			continue
		}
		s.paths["/"+l.name] = false
		missing = append(missing, &tar.Header{Name: "rootfs/" + l.name, Typeflag: tar.TypeSymlink, Linkname: l.target, Mode: 0o777, ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
	}
	return missing
}

// writeLayer writes one layer's ACI: the manifest first, which needs to know what all the layer brings.
func (c *Converter) writeLayer(ctx context.Context, l brig.ArchiveLayer, im schema.ImageManifest, seen *seen, last bool, create func(string) (io.WriteCloser, error)) (err error) {
	var entries []tar.Header
	err = c.eachEntry(ctx, l, func(h *tar.Header, _ io.Reader) error {
		entries = append(entries, tar.Header{Name: h.Name, Typeflag: h.Typeflag})
		return nil
	})
	if err != nil {
		return err
	}
	seen.add(entries)
	var links []*tar.Header
	if last {
		links = seen.links()
	}
	im.PathWhitelist = slices.Sorted(maps.Keys(seen.paths))
	manifest, err := json.Marshal(im)
	if err != nil {
		return errs.New(errs.Invalid, "no valid appc manifest: %w", err)
	}
	w, err := create(im.Name.String())
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	if err = c.layerEntries(ctx, tw, l, manifest, seen.top, links); err == nil {
		err = tw.Close()
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	return err
}

// layerEntries writes manifest and tree; whiteouts are in the whitelist's silence.
func (c *Converter) layerEntries(ctx context.Context, tw *tar.Writer, l brig.ArchiveLayer, manifest []byte, hasTop bool, links []*tar.Header) error {
	head := []*tar.Header{{Name: "manifest", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(manifest)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}}
	if !hasTop {
		head = append(head, &tar.Header{Name: "rootfs/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
	}
	for i, h := range head {
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		if _, err := tw.Write(manifest); err != nil {
			return err
		}
	}
	err := c.eachEntry(ctx, l, func(h *tar.Header, r io.Reader) error {
		if strings.HasPrefix(path.Base(cleanName(h.Name)), ".wh.") || h.Typeflag == tar.TypeXGlobalHeader {
			return nil
		}
		out := inRootfs(h)
		if err := tw.WriteHeader(out); err != nil {
			return errs.New(errs.Invalid, "entry %q: %w", h.Name, err)
		}
		if out.Typeflag != tar.TypeReg {
			return nil
		}
		_, err := io.Copy(tw, r)
		return err
	})
	if err != nil {
		return err
	}
	for _, h := range links {
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
	}
	return nil
}

// inRootfs is a layer entry's header as an ACI has it.
func inRootfs(h *tar.Header) *tar.Header {
	out := *h
	out.Name, out.Format = path.Join("rootfs", cleanName(h.Name)), tar.FormatPAX
	switch h.Typeflag {
	case tar.TypeDir:
		out.Name += "/"
	case tar.TypeLink:
		out.Linkname = path.Join("rootfs", cleanName(h.Linkname))
	case tar.TypeGNUSparse:
		out.Typeflag = tar.TypeReg
	}
	return &out
}
