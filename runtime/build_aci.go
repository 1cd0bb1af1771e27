package runtime

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/tarfs"
)

// An ACIBuilder builds images as Jetpack does: by a command that runs in a clone of another image, and leaves a manifest.
type ACIBuilder struct {
	images *Images
	maker  ACIMaker
	run    Runner
}

// NewACIBuilder returns one whose images are i's.
func NewACIBuilder(i *Images, m ACIMaker, r Runner) *ACIBuilder { return &ACIBuilder{i, m, r} }

// Names in a build's root file system.
const (
	workPrefix   = ".brig-build-"
	manifestName = "manifest.json" // in the working directory
)

// maxManifest bounds an image manifest, in bytes.
const maxManifest = 4 << 20

// BuildACI builds an image of another one: r.Context is unpacked into a fresh working directory in a clone of that, the command runs there as root, what
// it leaves as manifest.json is completed and becomes the manifest, and all that has changed in the clone, but for the working directory, one more
// layer. The image is one that came as an ACI: of that ACI, which has the layer alone and depends on the base. out and errOut get what the command
// says. If anything fails nothing stays. Invalid: the command has failed, or the manifest isn't valid.
func (b *ACIBuilder) BuildACI(ctx context.Context, r brig.ACIBuild, out, errOut io.Writer) (*brig.ACIImported, error) {
	ctx, cancel := b.images.joinContext(ctx)
	defer cancel()
	if len(r.Args) == 0 {
		return nil, errs.New(errs.Invalid, "no command specified")
	}
	var refs []string
	for _, t := range r.Tags {
		named, err := tagRef(t, "")
		if err != nil {
			return nil, errs.Wrap(err, "invalid tag %q", t)
		}
		refs = append(refs, named.String())
	}
	base, l, err := b.images.borrow(ctx, r.Base)
	if err != nil {
		return nil, err
	}
	defer l.release(ctx)
	on, err := b.dependency(ctx, base)
	if err != nil {
		return nil, err
	}
	var img *brig.Image
	own := b.images.lease()
	defer own.release(ctx)
	var warnings []string
	err = b.images.withClone(ctx, base, func(tree brig.Tree) error {
		doc, err := b.carryOut(ctx, tree, base, r, out, errOut)
		if err != nil {
			return err
		}
		child := child{base: base, on: on, doc: doc, by: "brig build " + strings.Join(r.Args, " ")}
		img, warnings, err = b.seal(ctx, own, tree, child, &refs)
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := b.images.commit(ctx, img, refs); err != nil {
		return nil, err
	}
	b.images.event("import", img, string(img.ID), string(img.ID))
	done := &brig.ACIImported{ID: img.ID, ACI: img.ACI.ID, Name: img.ACI.Name, Warnings: warnings}
	if len(refs) > 0 {
		done.Ref = familiar(refs[0])
	}
	return done, nil
}

// dependency is what a child of img depends on. Its ID is computed if it isn't known yet.
func (b *ACIBuilder) dependency(ctx context.Context, img *brig.Image) (brig.ACIDependency, error) {
	aci := img.ACI // a copy: images are replaced, not changed
	if aci.ID == "" {
		if err := b.images.computeACI(ctx, img.ID, func(w io.Writer) io.Writer { return w }); err != nil {
			return brig.ACIDependency{}, errs.Wrap(err, "find the ACI ID of image %s", shortDigest(img.ID))
		}
		info, err := b.images.ImageGet(ctx, string(img.ID))
		if err != nil {
			return brig.ACIDependency{}, err
		}
		aci = info.ACI
	}
	manifest, err := b.images.Blobs.Get(aci.Manifest)
	if err != nil {
		return brig.ACIDependency{}, errs.Wrap(err, "appc manifest of image %s", shortDigest(img.ID))
	}
	info, err := b.images.ACIs.ACIInfo(manifest)
	if err != nil {
		return brig.ACIDependency{}, err
	}
	return brig.ACIDependency{Name: info.Name, ID: aci.ID, Labels: info.Labels}, nil
}

// carryOut runs the command on the tree and returns the manifest that it leaves. The working directory is gone then.
func (b *ACIBuilder) carryOut(ctx context.Context, tree brig.Tree, base *brig.Image, r brig.ACIBuild, out, errOut io.Writer) ([]byte, error) {
	work := workPrefix + string(brig.NewRID())
	root, err := os.OpenRoot(tree.Path)
	if err != nil {
		return nil, errs.Wrap(err, "open the root file system")
	}
	defer root.Close()
	if err := root.Mkdir(work, 0o700); err != nil {
		return nil, errs.Wrap(err, "make the working directory")
	}
	o := tarfs.Options{Sub: work, Owner: &tarfs.Owner{}}
	if _, err := tarfs.Extract(ctx, tree.Path, r.Context, o); err != nil {
		return nil, errs.Wrap(err, "copy the build directory")
	}
	code, err := b.run.RunStep(ctx, brig.StepRun{
		Tree: tree, Image: base.ID, ImageRef: r.Base, Platform: base.Platform, Stdout: out, Stderr: errOut,
		Spec: brig.Spec{Entrypoint: r.Args, WorkingDir: "/" + work, User: "0:0", Env: base.Config.Env},
	})
	switch {
	case err != nil:
		return nil, errs.Wrap(err, "run the build command")
	case code != 0:
		return nil, errs.New(errs.Invalid, "the command '%s' returned a non-zero code: %d", strings.Join(r.Args, " "), code)
	}
	fault.Point("acibuild.ran")
	doc, err := readManifest(root, work)
	if err != nil {
		return nil, errs.As(errs.Invalid, errs.Wrap(err, "read %s of the working directory", manifestName))
	}
	return doc, errs.Wrap(root.RemoveAll(work), "remove the working directory")
}

// readManifest reads what the command has left, whatever that is.
func readManifest(root *os.Root, work string) ([]byte, error) {
	dir, err := root.OpenRoot(work)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := dir.OpenFile(manifestName, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("it is not a regular file"))
	}
	b, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err == nil && len(b) > maxManifest {
		err = fmt.Errorf("it has more than %d bytes", maxManifest)
	}
	return b, err
}

// child is an image in the making.
type child struct {
	base *brig.Image
	on   brig.ACIDependency // the base
	doc  []byte             // manifest as the command has left it
	by   string
}

// seal makes the record of the image that the tree has become, and brings what it needs into the store, held by l. The names that the manifest
// gives it come before those of refs.
func (b *ACIBuilder) seal(ctx context.Context, l *lease, tree brig.Tree, c child, refs *[]string) (*brig.Image, []string, error) {
	i := b.images
	changes, err := i.RootFS.Diff(ctx, tree.ID)
	if err != nil {
		return nil, nil, errs.Wrap(err, "find what the build changed")
	}
	var whitelist []string
	if slices.ContainsFunc(changes, func(c brig.Change) bool { return c.Kind == brig.ChangeDeleted }) {
		if whitelist, err = allPaths(ctx, tree.Path); err != nil {
			return nil, nil, errs.Wrap(err, "list what is in the image")
		}
	}
	manifest, err := b.maker.ChildManifest(c.doc, c.on, time.Now(), whitelist)
	if err != nil {
		return nil, nil, errs.Wrap(err, "%s", manifestName)
	}
	blob, err := i.storeLayer(ctx, l, func(ctx context.Context, w io.Writer) error { return tarfs.PackChanges(ctx, w, tree.Path, changes) })
	if err != nil {
		return nil, nil, err
	}
	top := brig.Layer{Diff: blob.Digest, Chain: brig.ChainID(c.base.Chain(), blob.Digest), Blob: blob}
	sum := sha512.New()
	if err := b.maker.WriteIncremental(ctx, sum, manifest, i.archived(top)); err != nil {
		return nil, nil, errs.Wrap(err, "write the ACI")
	}
	id := "sha512-" + hex.EncodeToString(sum.Sum(nil))
	wants := make([]want, 0, len(c.base.Layers)+1)
	var diffs []brig.Digest
	for _, x := range append(slices.Clone(c.base.Layers), top) {
		wants = append(wants, i.present(x))
		diffs = append(diffs, x.Diff)
	}
	config, names, warnings, err := b.maker.ProjectACI(manifest, id, c.by, diffs)
	if err != nil {
		return nil, nil, err
	}
	doc, err := i.Converter.ImageConfig(config)
	if err != nil {
		return nil, nil, err
	}
	for at, n := range names {
		named, err := tagRef(n, "")
		if err != nil {
			return nil, nil, errs.Wrap(err, "name the image")
		}
		*refs = slices.Insert(*refs, at, named.String())
	}
	layers, err := i.bringAll(ctx, l, wants)
	if err != nil {
		return nil, nil, err
	}
	img, err := i.describe(ctx, l, doc, layers, config, nil, firstRef(*refs))
	if err != nil {
		return nil, nil, err
	}
	info, err := i.ACIs.ACIInfo(manifest)
	if err != nil {
		return nil, nil, err
	}
	img.ACI = brig.ACI{Name: info.Name, Manifest: brig.DigestOf(manifest), ID: id, Own: true}
	img.Tagged = time.Now()
	l.blob(img.ACI.Manifest)
	if _, err := i.Blobs.PutBytes(ctx, manifest); err != nil {
		return nil, nil, errs.Wrap(err, "store the manifest of ACI %s", info.Name)
	}
	fault.Point("acibuild.sealed")
	return img, warnings, nil
}

// allPaths lists what is in a tree, absolute and sorted.
func allPaths(ctx context.Context, dir string) (out []string, err error) {
	err = filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && p != dir {
			out = append(out, strings.TrimPrefix(p, dir))
		}
		return err
	})
	slices.Sort(out)
	return out, err
}

// archived is a layer whose bytes are kept.
func (i *Images) archived(x brig.Layer) brig.ArchiveLayer {
	return brig.ArchiveLayer{Blob: x.Blob, Diff: x.Diff, Open: func() (io.ReadCloser, error) {
		f, _, err := i.Blobs.Open(x.Blob.Digest)
		if err != nil {
			return nil, err
		}
		return f, nil
	}}
}

// ExportIncremental writes the ACI that an image came or was built as, which brings its own layer to its dependencies. Invalid: it came in another way, or
// its bytes were packed in a way that brig can't repeat, so that they would have another ID. Then nothing is written.
func (b *ACIBuilder) ExportIncremental(ctx context.Context, ref string, w io.Writer) error {
	i := b.images
	img, l, err := i.borrow(ctx, ref)
	if err != nil {
		return err
	}
	defer l.release(ctx)
	if !img.ACI.Own || len(img.Layers) == 0 {
		return errs.New(errs.Invalid, "image %s is not one that came or was built as an ACI", ref)
	}
	manifest, err := i.Blobs.Get(img.ACI.Manifest)
	if err != nil {
		return errs.Wrap(err, "appc manifest of image %s", shortDigest(img.ID))
	}
	from, err := i.toArchive(img)
	if err != nil {
		return err
	}
	top, sum := from.Layers[len(from.Layers)-1], sha512.New()
	if err := b.maker.WriteIncremental(ctx, sum, manifest, top); err != nil {
		return err
	}
	if id := "sha512-" + hex.EncodeToString(sum.Sum(nil)); id != img.ACI.ID {
		return errs.New(errs.Invalid, "image %s came as %s, whose bytes can't be made again: export it whole, or in layers", ref, img.ACI.ID)
	}
	return b.maker.WriteIncremental(ctx, w, manifest, top)
}
