package registry

import (
	"encoding/json"
	"fmt"
	"mime"
	"slices"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/jsondoc"
)

// Media types of manifests.
const (
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	typeOCIIndex       = "application/vnd.oci.image.index.v1+json"
	typeSchema1        = "application/vnd.docker.distribution.manifest.v1+json"
	typeSchema1Signed  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// accepted goes out as Accept with every request for a manifest.
var accepted = strings.Join([]string{typeOCIIndex, typeDockerList, typeOCIManifest, typeDockerManifest}, ", ")

// A document is a manifest or an index whose bytes have been verified.
type document struct {
	bytes     []byte
	mediaType string // what it is, after all its signs agreed
	parsed    rawManifest
}

func (d *document) isIndex() bool {
	return d.mediaType == typeDockerList || d.mediaType == typeOCIIndex
}

type rawManifest struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	ArtifactType  string          `json:"artifactType"`
	Config        *rawDescriptor  `json:"config"`
	Layers        []rawDescriptor `json:"layers"`
	Manifests     []rawDescriptor `json:"manifests"`
	FSLayers      json.RawMessage `json:"fsLayers"`
}

type rawDescriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	Platform  *struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Variant      string `json:"variant"`
	} `json:"platform"`
}

// manifest is a parsed image manifest.
type manifest struct {
	Config brig.Descriptor
	Layers []brig.Descriptor
}

// parseDocument finds out what b is. contentType is what the registry, or the descriptor that led here, called it; "" if nothing did.
// A document that could be read in two ways is refused, else two clients could be shown two images by one digest (CVE-2021-41190).
func parseDocument(b []byte, contentType string) (*document, error) {
	d := &document{bytes: b}
	if err := jsondoc.Unmarshal(b, &d.parsed); err != nil {
		return nil, errs.Wrap(err, "the manifest is not valid JSON")
	}
	p := &d.parsed
	if ct, _, err := mime.ParseMediaType(contentType); err == nil {
		contentType = ct
	}
	if p.SchemaVersion == 1 || p.FSLayers != nil || contentType == typeSchema1 || contentType == typeSchema1Signed {
		return nil, errs.New(errs.NotImplemented, "the image has a Docker Image Format v1 or manifest v2 schema 1 manifest, which is no longer supported: "+
			"ask its author to push it again in the v2 schema 2 or OCI v1 format")
	}
	if p.SchemaVersion != 2 {
		return nil, errs.New(errs.Invalid, "unsupported manifest schema version %d", p.SchemaVersion)
	}
	if (p.Layers != nil || p.Config != nil) && p.Manifests != nil {
		return nil, errs.New(errs.Invalid, "the manifest is ambiguous: it has both layers and manifests")
	}
	d.mediaType = p.MediaType
	known := []string{typeDockerManifest, typeDockerList, typeOCIManifest, typeOCIIndex}
	if d.mediaType == "" && slices.Contains(known, contentType) {
		d.mediaType = contentType
	}
	if d.mediaType == "" { // OCI leaves the field out at will, and some servers say application/json
		d.mediaType = typeOCIManifest
		if p.Manifests != nil {
			d.mediaType = typeOCIIndex
		}
	}
	if slices.Contains(known, contentType) && contentType != d.mediaType {
		return nil, errs.New(errs.Invalid, "the manifest says it is %q and the registry says %q", d.mediaType, contentType)
	}
	if !slices.Contains(known, d.mediaType) {
		return nil, errs.New(errs.Invalid, "unsupported manifest media type %q", d.mediaType)
	}
	if d.isIndex() != (p.Manifests != nil) && (p.Manifests != nil || p.Config != nil) {
		return nil, errs.New(errs.Invalid, "the manifest says it is %q, which its content is not", d.mediaType)
	}
	return d, nil
}

// parseManifest reads an image manifest's descriptors.
func parseManifest(d *document) (*manifest, error) {
	if d.isIndex() {
		return nil, errs.New(errs.Invalid, "an index where an image manifest was expected")
	}
	if d.parsed.Config == nil {
		return nil, errs.New(errs.Invalid, "the manifest names no config")
	}
	config, err := d.parsed.Config.check("config")
	if err != nil {
		return nil, err
	}
	if !isImageConfig(config.MediaType) {
		return nil, errs.New(errs.Invalid, "unsupported media type %s: this is not a container image", config.MediaType)
	}
	m := &manifest{Config: config}
	for i := range d.parsed.Layers {
		l, err := d.parsed.Layers[i].check("layer " + strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, l)
	}
	return m, nil
}

// isImageConfig accepts what dockerd does: some registries and old tools left generic types behind.
func isImageConfig(t string) bool {
	switch t {
	case "application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json",
		"application/octet-stream", "application/json", "text/html", "text/plain", "":
		return true
	}
	return false
}

func (r *rawDescriptor) check(what string) (brig.Descriptor, error) {
	d, err := brig.ParseDigest(r.Digest)
	if err != nil {
		return brig.Descriptor{}, errs.Wrap(err, "%s", what)
	}
	if r.Size < 0 {
		return brig.Descriptor{}, errs.New(errs.Invalid, "%s %s: impossible size %d", what, d, r.Size)
	}
	return brig.Descriptor{MediaType: r.MediaType, Digest: d, Size: r.Size}, nil
}

// platform is the entry's platform in normal form; ok is false if it has none.
func (r *rawDescriptor) platform() (p brig.Platform, ok bool) {
	if r.Platform == nil || r.Platform.OS == "" && r.Platform.Architecture == "" {
		return p, false
	}
	return brig.Platform{OS: r.Platform.OS, Architecture: r.Platform.Architecture, Variant: r.Platform.Variant}.Normal(), true
}

// pick chooses the entry of an index for the first of the wanted platforms that it has. Entries that are not image manifests
// are passed over; one without a platform serves if nothing else does (its config then tells).
func pick(d *document, want []brig.Platform) (brig.Descriptor, error) {
	var bare *rawDescriptor
	var has []string
	for i := range d.parsed.Manifests {
		e := &d.parsed.Manifests[i]
		if p, ok := e.platform(); ok {
			has = append(has, p.String())
		} else if bare == nil && isManifest(e.MediaType) {
			bare = e
		}
	}
	for _, w := range want {
		for _, c := range w.Runs() {
			for i := range d.parsed.Manifests {
				e := &d.parsed.Manifests[i]
				if p, ok := e.platform(); ok && p == c && isManifest(e.MediaType) {
					return e.check("manifest for " + p.String())
				}
			}
		}
	}
	if bare != nil {
		return bare.check("manifest")
	}
	slices.Sort(has)
	has = slices.DeleteFunc(slices.Compact(has), func(s string) bool { return s == "unknown/unknown" })
	return brig.Descriptor{}, errs.New(errs.NotFound, "no matching manifest for %s in the manifest list entries: it has %s", want[0], orNone(has))
}

func orNone(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return fmt.Sprint(strings.Join(s, ", "))
}

func isManifest(t string) bool { return t == typeDockerManifest || t == typeOCIManifest || t == "" }
