package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/brigd/brig/convert"
	"github.com/brigd/brig/internal/blobs"
	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/tarfs"
	"github.com/brigd/brig/registry"
)

// converting is one run of brig convert. It asks no brigd: all that it needs lies in a temporary directory.
type converting struct {
	conv     *convert.Converter
	dir      string // temporary, gone at the end
	blobs    *blobs.Store
	squash   bool
	insecure bool
	platform string
	image    string // which one of an archive of several
	compress compression
	login    credentials
	named    bool // nobody said where the ACI shall go, so its path is printed
	in       io.Reader
	out      io.Writer
}

func convertCommand() *cobra.Command {
	c := &converting{conv: convert.New()}
	nosquash := false
	cmd := &cobra.Command{
		Use: "convert docker://REF|docker-archive:FILE|oci:DIR|FILE [OUT]", Args: cobra.RangeArgs(1, 2),
		Short: "Convert a Docker or OCI image to an ACI, without brigd; print its ID",
		Long: "Convert an image from a registry, from what docker save wrote, or from an OCI layout, to an App Container Image, without brigd.\n" +
			"OUT is the file to write (default: the image's name and tag, in the working directory); with --squash=false, or docker2aci's\n" +
			"--nosquash, it is a directory, made if missing, which gets one ACI for each layer.\n" +
			"Prints each ACI's ID, and unless OUT was given and is one file, its path. Squashing needs root, since layers have owners and devices.\n" +
			"Logins come from docker's config.json and its credential helpers.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c.in, c.out = cmd.InOrStdin(), cmd.OutOrStdout()
			c.squash = c.squash && !nosquash
			to := outName(args[0], c.image, c.squash)
			if c.named = len(args) == 1; !c.named {
				to = args[1]
			}
			return c.run(cmd.Context(), args[0], to)
		},
	}
	cmd.Flags().BoolVar(&c.squash, "squash", true, "write one flat ACI; false: one for each layer, with dependencies")
	cmd.Flags().BoolVar(&nosquash, "nosquash", false, "the same as --squash=false")
	cmd.Flags().StringVar(&c.platform, "platform", "", "os/arch[/variant] to take from a registry's image of several (default: this machine's)")
	cmd.Flags().BoolVar(&c.insecure, "insecure", false, "let the registry have a bad certificate or speak plain http")
	cmd.Flags().StringVar(&c.image, "image", "", "name:tag of the image to take from an archive of several")
	c.compress.flag(cmd, "compression")
	c.login.flags(cmd)
	return cmd
}

// outName is where an ACI goes if nobody says: the image's name without its registry, and its tag; the name of the archive else.
func outName(from, image string, squash bool) string {
	if !squash {
		return "."
	}
	kind, name, _ := strings.Cut(from, ":")
	if kind != "docker" && image == "" {
		if name == "" {
			name = kind
		}
		base := filepath.Base(name)
		return strings.TrimSuffix(base, filepath.Ext(base)) + ".aci"
	}
	if kind == "docker" {
		image = strings.TrimPrefix(name, "//")
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "image.aci" // it will not come to that
	}
	out := reference.Path(named)
	if reference.Domain(named) == "docker.io" {
		out = strings.TrimPrefix(out, "library/")
	}
	if t, ok := reference.TagNameOnly(named).(reference.Tagged); ok {
		out += "-" + t.Tag()
	}
	return strings.ReplaceAll(out, "/", "-") + ".aci"
}

func (c *converting) run(ctx context.Context, from, to string) (err error) {
	if c.dir, err = os.MkdirTemp("", "brig-convert-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.dir)) }()
	if c.blobs, err = blobs.Open(filepath.Join(c.dir, "blobs")); err != nil {
		return err
	}
	img, ref, err := c.fetch(ctx, from)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	var digest brig.Digest
	if img.Manifest != nil {
		digest = brig.DigestOf(img.Manifest)
	}
	if c.squash {
		return c.flat(ctx, img, ref, digest, to)
	}
	return c.layered(ctx, img, ref, digest, to)
}

// fetch brings the image's layers, uncompressed and verified, into blobs. ref is the name that it came by, "" if none.
func (c *converting) fetch(ctx context.Context, from string) (brig.ArchiveImage, string, error) {
	kind, name, _ := strings.Cut(from, ":")
	switch kind {
	case "docker":
		name = strings.TrimPrefix(name, "//")
		img, err := c.pull(ctx, name)
		return img, name, err
	case "docker-archive", from: // docker2aci takes the file alone
		if kind == from {
			name = from
		}
		f, err := os.Open(name)
		if err != nil {
			return brig.ArchiveImage{}, "", err
		}
		defer f.Close()
		return c.unpack(ctx, f)
	case "oci":
		r, w := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.CloseWithError(tarfs.Pack(ctx, w, name, tarfs.PackOptions{}))
		}()
		img, ref, err := c.unpack(ctx, r)
		r.Close()
		<-done
		return img, ref, err
	}
	return brig.ArchiveImage{}, "", errors.New("want docker://REFERENCE, docker-archive:FILE or oci:DIRECTORY")
}

// pull reads an image from a registry.
func (c *converting) pull(ctx context.Context, name string) (img brig.ArchiveImage, err error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return img, err
	}
	config := registry.Config{CertsDir: "/etc/docker/certs.d", UserAgent: "brig/" + version}
	if c.insecure {
		config.Insecure = []string{reference.Domain(named)}
	}
	reg, err := registry.New(config)
	if err != nil {
		return img, err
	}
	defer reg.Close()
	auth, err := c.login.find(ctx, c.in, reference.Domain(named))
	if err != nil {
		return img, err
	}
	remote, err := reg.Resolve(ctx, reference.TagNameOnly(named).String(), c.platform, auth)
	if err != nil {
		return img, err
	}
	img.Config, img.Manifest = remote.Config, remote.Manifest
	for _, d := range remote.Layers {
		img.Layers = append(img.Layers, brig.ArchiveLayer{Blob: d, Open: func() (io.ReadCloser, error) {
			r, err := reg.Layer(ctx, remote, d, 0)
			if err != nil {
				return nil, err
			}
			defer r.Close()
			if _, err := c.blobs.Put(ctx, r, d.Digest, d.Size); err != nil {
				return nil, err
			}
			f, _, err := c.blobs.Open(d.Digest)
			return f, err
		}})
	}
	return img, c.keep(ctx, &img)
}

// unpack reads the one image of an archive, or the one that --image names.
func (c *converting) unpack(ctx context.Context, r io.Reader) (img brig.ArchiveImage, ref string, err error) {
	images, closeAll, err := c.conv.ReadArchive(ctx, r, c.dir)
	if err != nil {
		return img, "", err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	found := -1
	var names []string
	for i := range images {
		names = append(names, images[i].Refs...)
		for _, name := range images[i].Refs {
			if name == c.image {
				found, ref = i, name
			}
		}
	}
	if c.image == "" && len(images) == 1 {
		if found = 0; len(names) > 0 {
			ref = names[0]
		}
	}
	if found < 0 {
		return img, "", fmt.Errorf("the archive holds %d images, say which with --image: %s", len(images), strings.Join(names, ", "))
	}
	img = images[found]
	return img, ref, c.keep(ctx, &img)
}

// keep makes each layer of img one of the uncompressed bytes in blobs, which must be what the config says.
func (c *converting) keep(ctx context.Context, img *brig.ArchiveImage) error {
	doc, err := c.conv.ImageConfig(img.Config)
	if err != nil {
		return err
	}
	if len(doc.Diffs) != len(img.Layers) {
		return fmt.Errorf("the image has %d layers, but its config names %d", len(img.Layers), len(doc.Diffs))
	}
	for n, diff := range doc.Diffs {
		if err := c.keepLayer(ctx, &img.Layers[n], diff); err != nil {
			return fmt.Errorf("layer %s: %w", diff, err)
		}
	}
	return nil
}

func (c *converting) keepLayer(ctx context.Context, l *brig.ArchiveLayer, diff brig.Digest) error {
	packed, err := l.Open()
	if err != nil {
		return err
	}
	defer packed.Close()
	plain, err := c.conv.Decompress(ctx, packed, l.Blob.MediaType)
	if err != nil {
		return err
	}
	defer plain.Close()
	if _, err := c.blobs.Put(ctx, plain, diff, -1); err != nil {
		return err
	}
	l.Diff, l.Blob.MediaType = diff, ""
	l.Open = func() (io.ReadCloser, error) {
		f, _, err := c.blobs.Open(diff)
		return f, err
	}
	return nil
}

// flat writes one ACI: the same bytes that brigd exports for the same image and name.
func (c *converting) flat(ctx context.Context, img brig.ArchiveImage, ref string, digest brig.Digest, to string) error {
	if os.Geteuid() != 0 {
		return errors.New("squashing needs root, since layers have owners and devices; --squash=false doesn't")
	}
	_, manifest, err := c.conv.ACIManifest(img.Config, ref, digest)
	if err != nil {
		return err
	}
	root := filepath.Join(c.dir, "root")
	if err := errors.Join(os.Mkdir(root, 0o755), os.Chmod(root, 0o755), os.Chtimes(root, time.Unix(0, 0), time.Unix(0, 0))); err != nil {
		return err // the mode whatever the umask is, and a time that says nothing
	}
	if err := c.conv.Squash(ctx, img, root); err != nil {
		return err
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(c.conv.WriteACI(ctx, w, manifest, root))
	}()
	id, err := saveACI(ctx, to, r, c.compress)
	r.Close()
	<-done
	if err != nil {
		return err
	}
	if c.named {
		id += " " + to
	}
	_, err = fmt.Fprintln(c.out, id)
	return err
}

// layered writes one ACI for each layer into the directory to; their files appear when all have been written.
func (c *converting) layered(ctx context.Context, img brig.ArchiveImage, ref string, digest brig.Digest, to string) error {
	tmp := filepath.Join(c.dir, "acis")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	var names []string
	err := c.conv.WriteLayered(ctx, img, ref, digest, func(name string) (io.WriteCloser, error) {
		names = append(names, strings.ReplaceAll(name, "/", "-")+".aci")
		return os.Create(filepath.Join(tmp, fmt.Sprint(len(names)-1)))
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for n, name := range names {
		if err := c.move(ctx, filepath.Join(tmp, fmt.Sprint(n)), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return nil
}

// move copies a finished ACI to where it shall be, and prints its ID and path.
func (c *converting) move(ctx context.Context, from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	id, err := saveACI(ctx, to, f, c.compress)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, id, to)
	return err
}
