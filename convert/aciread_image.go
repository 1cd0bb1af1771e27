package convert

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/podspec"
)

// ImageFromACI makes a Docker image of an ACI. lower are the layers of its dependencies, in order from the lowest up; the ACI's own comes
// on top, and hides what the path whitelist of the ACI doesn't name. The image's config is a projection of the manifest, and the same
// ACI and layers always give the same bytes. warnings name what Docker has no room for. close ends the use of the top layer.
func (c *Converter) ImageFromACI(ctx context.Context, a *brig.ACIArchive, lower []brig.ArchiveLayer, spool string) (img brig.ArchiveImage, warnings []string, close func() error, err error) {
	im, err := parseACIManifest(a.Manifest)
	if err != nil {
		return img, nil, nil, err
	}
	top, close, err := c.whitelisted(ctx, a.Layer, lower, im.PathWhitelist, spool)
	if err != nil {
		return img, nil, nil, err
	}
	img.Layers = append(slices.Clone(lower), top)
	if img.Config, warnings, err = configOf(im, a.ID, "brig image import "+im.Name.String(), img.Layers); err == nil {
		img.Refs, err = refsOf(im)
	}
	if err != nil {
		close()
		return img, nil, nil, err
	}
	return img, warnings, close, nil
}

// outConfig is the config that is written; the order of fields is that of the output.
type outConfig struct {
	Architecture string       `json:"architecture"`
	OS           string       `json:"os"`
	Variant      string       `json:"variant,omitempty"`
	Created      string       `json:"created,omitempty"`
	Author       string       `json:"author,omitempty"`
	Config       outExecution `json:"config"`
	RootFS       outRootFS    `json:"rootfs"`
	History      []outHistory `json:"history"`
}

type outExecution struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
}

type outRootFS struct {
	Type    string        `json:"type"`
	DiffIDs []brig.Digest `json:"diff_ids"`
}

type outHistory struct {
	Created   string `json:"created,omitempty"`
	CreatedBy string `json:"created_by,omitempty"`
	Comment   string `json:"comment,omitempty"`
}

// configOf projects a manifest. The history names the ACI, so that different ACIs are different images, and says what made the topmost layer.
func configOf(im *schema.ImageManifest, id, by string, layers []brig.ArchiveLayer) ([]byte, []string, error) {
	out := outConfig{RootFS: outRootFS{Type: "layers"}}
	out.OS, out.Architecture, out.Variant = goPlatform(labelMap(im.Labels))
	if s, _ := im.Annotations.Get("created"); s != "" {
		if _, err := time.Parse(time.RFC3339Nano, s); err == nil {
			out.Created = s
		}
	}
	if out.Author, _ = im.Annotations.Get("author"); out.Author == "" {
		out.Author, _ = im.Annotations.Get("authors")
	}
	for n, l := range layers {
		out.RootFS.DiffIDs = append(out.RootFS.DiffIDs, l.Diff)
		h := outHistory{Created: out.Created, Comment: "a layer of a dependency"}
		if n == len(layers)-1 {
			h.CreatedBy, h.Comment = by, id
		}
		out.History = append(out.History, h)
	}
	var warnings []string
	if im.App != nil {
		var err error
		if out.Config, warnings, err = executionOf(im); err != nil {
			return nil, nil, err
		}
	}
	b, err := json.Marshal(out)
	return b, warnings, err
}

// goPlatform gives Go's and Docker's words for the os and arch labels; an ACI without them is for this machine.
func goPlatform(labels map[string]string) (os, arch, variant string) {
	os, arch = labels["os"], labels["arch"]
	if os == "" {
		os = runtime.GOOS
	}
	switch arch {
	case "":
		arch = runtime.GOARCH
	case "i386":
		arch = "386"
	case "aarch64":
		arch = "arm64"
	case "armv6l":
		arch, variant = "arm", "v6"
	case "armv7l":
		arch, variant = "arm", "v7"
	}
	return os, arch, variant
}

// executionOf projects the app section. What exec is made of, only docker2aci's annotations can say; without them it is the command,
// so that words given to docker run replace it.
func executionOf(im *schema.ImageManifest) (out outExecution, warnings []string, err error) {
	a := im.App
	if out.User, err = podspec.ConfigUser(im); err != nil {
		return out, nil, err
	}
	out.Cmd = a.Exec
	entry, cmd := annotated(im, "appc.io/docker/entrypoint"), annotated(im, "appc.io/docker/cmd")
	if slices.Equal(append(slices.Clone(entry), cmd...), a.Exec) {
		out.Entrypoint, out.Cmd = entry, cmd
	}
	for _, e := range a.Environment {
		out.Env = append(out.Env, e.Name+"="+e.Value)
	}
	out.WorkingDir, out.Labels = a.WorkingDirectory, a.UserLabels
	for _, m := range a.MountPoints {
		if out.Volumes == nil {
			out.Volumes = map[string]struct{}{}
		}
		out.Volumes[m.Path] = struct{}{}
	}
	for _, p := range a.Ports {
		key, ok := portKey(p)
		if !ok {
			warnings = append(warnings, fmt.Sprintf("port %s is left out: docker has no protocol %q, or its numbers make no sense", p.Name, p.Protocol))
			continue
		}
		if out.ExposedPorts == nil {
			out.ExposedPorts = map[string]struct{}{}
		}
		out.ExposedPorts[key] = struct{}{}
	}
	return out, warnings, nil
}

func portKey(p types.Port) (string, bool) {
	last := p.Port + max(p.Count, 1) - 1
	switch {
	case p.Port == 0 || last > 65535 || p.Protocol != "tcp" && p.Protocol != "udp" && p.Protocol != "sctp":
		return "", false
	case last > p.Port:
		return fmt.Sprintf("%d-%d/%s", p.Port, last, p.Protocol), true
	}
	return fmt.Sprintf("%d/%s", p.Port, p.Protocol), true
}

// annotated is a list that an annotation holds as JSON; nil if it is none.
func annotated(im *schema.ImageManifest, name string) (list []string) {
	s, _ := im.Annotations.Get(name)
	if json.Unmarshal([]byte(s), &list) != nil {
		return nil
	}
	return list
}

// refsOf names the image for docker: as docker2aci's annotations say, else by its appc name; the version label is the tag.
func refsOf(im *schema.ImageManifest) ([]string, error) {
	version, _ := im.Labels.Get("version")
	index, _ := im.Annotations.Get("appc.io/docker/registryurl")
	repo, _ := im.Annotations.Get("appc.io/docker/repository")
	if tag, _ := im.Annotations.Get("appc.io/docker/tag"); tag != "" {
		version = tag
	}
	name := refName(im.Name.String())
	if repo != "" {
		if index == hubIndex || index == "" {
			index = "docker.io"
		}
		if _, err := reference.ParseNormalizedNamed(index + "/" + repo); err == nil {
			name = index + "/" + repo
		}
	}
	if tag := tagName(version); tag != "" {
		name += ":" + tag
	}
	ref, err := familiar(name)
	if err != nil {
		return nil, errs.Wrap(err, "the ACI's name %q makes no name for docker", im.Name)
	}
	return []string{ref}, nil
}

// What a reference's path and tag can't hold (distribution's reference.go has the grammar).
var (
	badSeparator = regexp.MustCompile(`[^a-z0-9]*[^a-z0-9._-][^a-z0-9]*|\.[._-]+|_[.-][._-]*|-+[._][._-]*|_{3,}`)
	badTag       = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)
)

// refName makes a valid reference of an appc name.
func refName(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = strings.Trim(badSeparator.ReplaceAllString(p, "-"), "._-")
	}
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	out := strings.Join(parts, "/")
	if _, err := reference.ParseNormalizedNamed(out); err != nil { // 64 hex digits are an ID
		return "aci/" + out
	}
	return out
}

func tagName(version string) string {
	s := strings.TrimLeft(badTag.ReplaceAllString(version, "-"), ".-")
	return s[:min(len(s), 128)]
}

// whitelisted gives the top layer: own, or where the whitelist takes something away, own without it and with removals of what the
// layers below must not show. It calls nothing gone that the list names, or that leads to something it names.
func (c *Converter) whitelisted(ctx context.Context, own brig.ArchiveLayer, lower []brig.ArchiveLayer, list []string, spool string) (_ brig.ArchiveLayer, close func() error, err error) {
	nothing := func() error { return nil }
	if len(list) == 0 {
		return own, nothing, nil
	}
	kept := keptPaths(list)
	gone := map[string]bool{}
	for _, l := range lower {
		err := c.eachEntry(ctx, l, func(h *tar.Header, _ io.Reader) error {
			if name := hiddenTop(cleanName(h.Name), kept); name != "" && !strings.HasPrefix(path.Base(name), ".wh.") {
				gone[name] = true
			}
			return nil
		})
		if err != nil {
			return own, nil, err
		}
	}
	filtered := false
	err = c.eachEntry(ctx, own, func(h *tar.Header, _ io.Reader) error {
		filtered = filtered || !kept[cleanName(h.Name)]
		return nil
	})
	if err != nil || !filtered && len(gone) == 0 {
		return own, nothing, err
	}
	out, err := newSpoolTar(spool)
	if err != nil {
		return own, nil, err
	}
	layer, err := c.writeWhitelisted(ctx, out, own, kept, gone)
	if err != nil {
		out.close()
		return own, nil, err
	}
	return layer, out.close, nil
}

// writeWhitelisted writes the removals, sorted, then what is kept of own.
func (c *Converter) writeWhitelisted(ctx context.Context, out *spooledTar, own brig.ArchiveLayer, kept, gone map[string]bool) (brig.ArchiveLayer, error) {
	var names []string
	for name := range gone {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		dir, base := path.Split(name)
		h := &tar.Header{Name: dir + ".wh." + base, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if err := out.add(h, strings.NewReader("")); err != nil {
			return own, err
		}
	}
	err := c.eachEntry(ctx, own, func(h *tar.Header, r io.Reader) error {
		if !kept[cleanName(h.Name)] {
			return nil
		}
		h.Format = tar.FormatPAX
		return out.add(h, r)
	})
	if err != nil {
		return own, err
	}
	return out.finish()
}

// keptPaths are the whitelist's paths and all that lead to them, relative; "" is the root.
func keptPaths(list []string) map[string]bool {
	kept := map[string]bool{"": true}
	for _, p := range list {
		for p = cleanName(p); p != "" && p != "." && !kept[p]; p = path.Dir(p) {
			kept[p] = true
		}
	}
	return kept
}

// hiddenTop is the highest of name and its parents that is not kept; "" if all are.
func hiddenTop(name string, kept map[string]bool) string {
	for i := range len(name) + 1 {
		if (i == len(name) || name[i] == '/') && !kept[name[:i]] {
			return name[:i]
		}
	}
	return ""
}

// eachEntry walks a layer.
func (c *Converter) eachEntry(ctx context.Context, l brig.ArchiveLayer, each func(*tar.Header, io.Reader) error) error {
	f, err := l.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := c.Decompress(ctx, contextReader{ctx, f}, l.Blob.MediaType)
	if err != nil {
		return err
	}
	defer plain.Close()
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errs.Wrap(err, "read layer %s", l.Diff)
		}
		if err := each(h, tr); err != nil {
			return err
		}
	}
}
