package convert

import (
	"cmp"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/jsondoc"
)

// Media types of OCI layouts and of what Docker puts into them.
const (
	typeOCIIndex       = "application/vnd.oci.image.index.v1+json"
	typeOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	typeOCIConfig      = "application/vnd.oci.image.config.v1+json"
	typeOCILayer       = "application/vnd.oci.image.layer.v1.tar"
	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// Annotations that name an image in an OCI layout (OCI annotations.md; containerd's).
const (
	annotationRef  = "org.opencontainers.image.ref.name"
	annotationName = "io.containerd.image.name"
)

// saved is one image in a docker-archive's manifest.json.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// descriptor is an OCI descriptor as far as it is used here.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *platform         `json:"platform,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

// ociIndex and ociManifest are written too, so the order of fields is that of the output.
type ociIndex struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Manifests     []descriptor `json:"manifests"`
}

type ociManifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

// found is an image manifest of an OCI layout, with the names that led to it.
type found struct {
	bytes    []byte
	manifest ociManifest
	refs     []string
}

// images reads manifest.json where there is one, as docker does, else index.json.
func (a *archive) images() ([]brig.ArchiveImage, error) {
	_, docker := a.entries["manifest.json"]
	_, oci := a.entries["index.json"]
	var layout []found
	if oci {
		var err error
		if layout, err = a.layout(); err != nil && !docker {
			return nil, err
		}
	}
	switch {
	case docker:
		return a.dockerImages(layout)
	case oci:
		return a.ociImages(layout)
	}
	if _, ok := a.entries["repositories"]; ok {
		return nil, errs.New(errs.NotImplemented, "the archive was written by a docker older than 1.10: load it with that and save it again")
	}
	return nil, errs.New(errs.Invalid, "invalid archive: it has neither manifest.json nor index.json")
}

// dockerImages reads manifest.json. An OCI layout beside it gives the exact manifests of images whose config it has too.
func (a *archive) dockerImages(layout []found) ([]brig.ArchiveImage, error) {
	var list []saved
	if err := a.decode("manifest.json", &list); err != nil {
		return nil, err
	}
	if len(list) > maxImages {
		return nil, errs.New(errs.Invalid, "invalid archive: more than %d images", maxImages)
	}
	var out []brig.ArchiveImage
	for _, s := range list {
		config, err := a.document(s.Config)
		if err != nil {
			return nil, err
		}
		img := brig.ArchiveImage{Config: config}
		for _, t := range s.RepoTags {
			ref, err := familiar(t)
			if err != nil {
				return nil, err
			}
			img.Refs = append(img.Refs, ref)
		}
		m := manifestOf(layout, brig.DigestOf(config), s.Layers)
		if m != nil {
			img.Manifest = m.bytes
		}
		if img.Layers, err = a.layers(config, s.Layers, m); err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	return out, nil
}

// manifestOf finds the manifest that describes exactly these layers; nil if none does.
func manifestOf(layout []found, config brig.Digest, layers []string) *found {
	for i := range layout {
		m := &layout[i].manifest
		if m.Config.Digest != string(config) || len(m.Layers) != len(layers) {
			continue
		}
		same := true
		for j, l := range m.Layers {
			same = same && l.Digest == string(blobDigest(layers[j]))
		}
		if same {
			return &layout[i]
		}
	}
	return nil
}

// layers describes an image's layers, which must be as many as its config has diffIDs.
func (a *archive) layers(config []byte, paths []string, m *found) ([]brig.ArchiveLayer, error) {
	_, diffs, err := parseImage(config)
	if err != nil {
		return nil, err
	}
	if len(diffs) != len(paths) {
		return nil, errs.New(errs.Invalid, "invalid manifest, layers length mismatch: expected %d, got %d", len(diffs), len(paths))
	}
	var out []brig.ArchiveLayer
	for i, p := range paths {
		var d brig.Descriptor
		if m != nil {
			if d, err = m.manifest.Layers[i].check(); err != nil {
				return nil, err
			}
		}
		l, err := a.layer(p, d, diffs[i])
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// ociImages makes images of an OCI layout's manifests.
func (a *archive) ociImages(layout []found) ([]brig.ArchiveImage, error) {
	var out []brig.ArchiveImage
	for i := range layout {
		f := &layout[i]
		d, err := f.manifest.Config.check()
		if err != nil {
			return nil, err
		}
		img := brig.ArchiveImage{Manifest: f.bytes, Refs: f.refs}
		if img.Config, err = a.document(blobPath(d.Digest)); err != nil {
			return nil, err
		}
		var paths []string
		for _, l := range f.manifest.Layers {
			d, err := l.check()
			if err != nil {
				return nil, err
			}
			paths = append(paths, blobPath(d.Digest))
		}
		if img.Layers, err = a.layers(img.Config, paths, f); err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	return out, nil
}

// layout reads index.json. An image that is named several times comes once, with all its names.
func (a *archive) layout() ([]found, error) {
	var index ociIndex
	if err := a.decode("index.json", &index); err != nil {
		return nil, err
	}
	if len(index.Manifests) > maxImages {
		return nil, errs.New(errs.Invalid, "invalid archive: more than %d images", maxImages)
	}
	var out []found
	at := map[string]int{}
	for _, d := range index.Manifests {
		m, digest, err := a.manifest(d)
		if err != nil {
			return nil, err
		}
		if m == nil {
			continue
		}
		i, ok := at[digest]
		if !ok {
			i = len(out)
			at[digest] = i
			out = append(out, *m)
		}
		if ref := nameOf(d); ref != "" && !slices.Contains(out[i].refs, ref) {
			out[i].refs = append(out[i].refs, ref)
		}
	}
	return out, nil
}

// manifest reads what a descriptor of index.json names; nil if it is no image. Of an inner index it is the image for
// the best of the wanted platforms, else the first that is in the archive: docker save leaves the other platforms out.
func (a *archive) manifest(d descriptor) (*found, string, error) {
	if d.MediaType == typeOCIIndex || d.MediaType == typeDockerList {
		c, err := d.check()
		if err != nil {
			return nil, "", err
		}
		var inner ociIndex
		if err := a.decode(blobPath(c.Digest), &inner); err != nil {
			return nil, "", err
		}
		if d = a.choose(inner.Manifests); d.Digest == "" {
			return nil, "", nil
		}
	}
	if d.MediaType != typeOCIManifest && d.MediaType != typeDockerManifest && d.MediaType != "" {
		return nil, "", nil
	}
	c, err := d.check()
	if err != nil {
		return nil, "", err
	}
	b, err := a.document(blobPath(c.Digest))
	if err != nil {
		return nil, "", err
	}
	f := &found{bytes: b}
	if err := jsondoc.Unmarshal(b, &f.manifest); err != nil {
		return nil, "", errs.Wrap(err, "invalid archive: manifest %s", c.Digest)
	}
	return f, d.Digest, nil
}

// choose takes an image of an inner index; zero if there is none in the archive.
func (a *archive) choose(list []descriptor) descriptor {
	var there []descriptor
	for _, d := range list {
		c, err := d.check()
		if err != nil || d.Platform != nil && d.Platform.OS == "unknown" {
			continue
		}
		if _, ok := a.entries[blobPath(c.Digest)]; ok {
			there = append(there, d)
		}
	}
	for _, w := range a.want {
		for _, runs := range w.Runs() {
			for _, d := range there {
				if p := d.Platform; p != nil && runs == (brig.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}).Normal() {
					return d
				}
			}
		}
	}
	if len(there) == 0 {
		return descriptor{}
	}
	return there[0]
}

// check makes a descriptor the engine's own.
func (d descriptor) check() (brig.Descriptor, error) {
	digest, err := brig.ParseDigest(d.Digest)
	if err != nil {
		return brig.Descriptor{}, errs.Wrap(err, "invalid archive")
	}
	if d.Size < 0 {
		return brig.Descriptor{}, errs.New(errs.Invalid, "invalid archive: %s has an impossible size", digest)
	}
	return brig.Descriptor{MediaType: d.MediaType, Digest: digest, Size: d.Size}, nil
}

// nameOf reads an image's name from its annotations. The OCI one often is a tag alone, which names nothing.
func nameOf(d descriptor) string {
	name := cmp.Or(d.Annotations[annotationName], d.Annotations[annotationRef])
	if !strings.ContainsAny(name, ":/") {
		return ""
	}
	ref, err := familiar(name)
	if err != nil {
		return ""
	}
	return ref
}

// familiar checks a name:tag and gives it docker's short form.
func familiar(s string) (string, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return "", errs.New(errs.Invalid, "invalid tag %q: %w", s, err)
	}
	if _, ok := named.(reference.Digested); ok {
		return "", errs.New(errs.Invalid, "invalid tag %q", s)
	}
	return reference.FamiliarString(reference.TagNameOnly(named)), nil
}
