package convert

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// hubIndex is docker2aci's name for Docker Hub.
const hubIndex = "registry-1.docker.io"

// source is where an image came from, in docker2aci's terms.
type source struct {
	original   string // the reference as given
	index      string // registry host
	repository string
	tag        string // "" if the reference has a digest
}

// parseSource splits a reference as docker2aci's ParseDockerURL does; the zero source for "".
func parseSource(ref string) (source, error) {
	if ref == "" {
		return source{}, nil
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return source{}, errs.New(errs.Invalid, "invalid reference format: %q: %w", ref, err)
	}
	s := source{original: ref, index: reference.Domain(named), repository: reference.Path(named)}
	if s.index == "docker.io" {
		s.index = hubIndex
	}
	_, digested := named.(reference.Digested)
	if tagged, ok := reference.TagNameOnly(named).(reference.Tagged); ok && !digested {
		s.tag = tagged.Tag()
	}
	return s, nil
}

// ACIManifest projects a config to an appc image manifest that is valid by the schema; the same arguments give the same bytes.
// ref is the reference that the image came by, "" if there is none: then the image's ID is its name. manifest is the digest of its
// (platform's) Docker or OCI manifest, "" if it came without one.
func (c *Converter) ACIManifest(config []byte, ref string, manifest brig.Digest) (name string, manifestJSON []byte, err error) {
	raw, _, err := parseImage(config)
	if err != nil {
		return "", nil, err
	}
	src, err := parseSource(ref)
	if err != nil {
		return "", nil, err
	}
	id := brig.DigestOf(config)
	acName, err := aciName(src, id)
	if err != nil {
		return "", nil, err
	}
	im := schema.ImageManifest{
		ACKind: schema.ImageManifestKind, ACVersion: schema.AppContainerVersion, Name: acName,
		Labels:      labels(raw, src),
		Annotations: annotations(raw, src, id, manifest),
	}
	if raw.Config != nil {
		im.App = app(raw.Config)
	}
	b, err := json.Marshal(im)
	if err != nil {
		return "", nil, errs.New(errs.Invalid, "image %s: no valid appc manifest: %w", id, err)
	}
	return acName.String(), b, nil
}

// aciName is registry/repository in the alphabet of AC identifiers. docker2aci appends the layer's ID, makes an identifier of the
// whole, and cuts the ID off again when it squashes; so the end of a repository is left as it is, but its beginning isn't.
func aciName(src source, id brig.Digest) (types.ACIdentifier, error) {
	s := strings.ReplaceAll(string(id), ":", "-")
	if src.repository != "" {
		s = src.index + "/" + src.repository
	}
	s, err := types.SanitizeACIdentifier(s)
	if err != nil {
		return "", errs.New(errs.Invalid, "%q makes no appc name: %w", src.original, err)
	}
	return types.ACIdentifier(s), nil
}

// labels are sorted by name. An architecture that appc has no word for has no label, so that the image says nothing wrong.
func labels(raw *rawImage, src source) types.Labels {
	var out types.Labels
	if os, arch := osArch(raw); os != "" {
		if arch != "" {
			out = append(out, types.Label{Name: "arch", Value: arch})
		}
		out = append(out, types.Label{Name: "os", Value: os})
	}
	if src.tag != "" {
		out = append(out, types.Label{Name: "version", Value: src.tag})
	}
	return out
}

// osArch gives appc's words for a platform (aci.md, "os" and "arch" labels); "" where there is none.
func osArch(raw *rawImage) (os, arch string) {
	flavor := strings.TrimPrefix(strings.ToLower(raw.Variant), "v")
	if raw.Architecture != "arm" || flavor != "7" {
		flavor = ""
	}
	if os, arch, err := types.ToAppcOSArch(raw.OS, raw.Architecture, flavor); err == nil {
		return os, arch
	}
	valid, ok := types.ValidOSArch[raw.OS]
	if !ok {
		return "", ""
	}
	arch = raw.Architecture
	if arch == "arm64" {
		arch = "aarch64"
	}
	if !slices.Contains(valid, arch) {
		return raw.OS, ""
	}
	return raw.OS, arch
}

// annotations are in docker2aci's order; empty ones are left out.
func annotations(raw *rawImage, src source, id, manifest brig.Digest) types.Annotations {
	var out types.Annotations
	set := func(name types.ACIdentifier, value string) {
		if value != "" {
			out.Set(name, value)
		}
	}
	set("author", raw.Author)
	if raw.Created != nil {
		if _, err := time.Parse(time.RFC3339Nano, *raw.Created); err == nil {
			set("created", *raw.Created)
		}
	}
	set("appc.io/docker/originalname", src.original)
	set("appc.io/docker/registryurl", src.index)
	set("appc.io/docker/repository", src.repository)
	set("appc.io/docker/imageid", string(id))
	set("appc.io/docker/manifesthash", string(manifest))
	if raw.Config != nil {
		set("appc.io/docker/entrypoint", list(raw.Config.Entrypoint))
		set("appc.io/docker/cmd", list(raw.Config.Cmd))
	}
	return out
}

// list is a non-empty list as JSON.
func list(words []string) string {
	if len(words) == 0 {
		return ""
	}
	b, err := json.Marshal(words)
	if err != nil {
		return ""
	}
	return string(b)
}

// app maps the execution part of a config.
func app(c *rawConfig) *types.App {
	a := &types.App{
		Exec:             append(slices.Clone([]string(c.Entrypoint)), c.Cmd...),
		WorkingDirectory: c.WorkingDir,
		Environment:      environment(c.Env),
		MountPoints:      mountPoints(c),
		Ports:            appPorts(c),
	}
	a.User, a.Group = user(c.User)
	if a.WorkingDirectory != "" && !path.IsAbs(a.WorkingDirectory) { // Docker takes it from the root, appc refuses it
		a.WorkingDirectory = path.Join("/", a.WorkingDirectory)
	}
	return a
}

// user splits USER. Without a group it is the user's name: what the image's passwd says is only known once it runs.
func user(s string) (user, group string) {
	user, group, _ = strings.Cut(s, ":")
	group, _, _ = strings.Cut(group, ":")
	if user == "" {
		user = "0"
	}
	if group == "" {
		group = user
	}
	return user, group
}

// envName is what appc allows (schema/types, environment.go).
var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9.-]*$`)

// environment keeps the last value of each name, at the first one's place. Names that appc has no room for are left out.
func environment(env []string) types.Environment {
	out := types.Environment{}
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok && envName.MatchString(k) {
			out.Set(k, v)
		}
	}
	return out
}

// mountPoints are sorted by name; "volume-" and the path in the alphabet of AC names, numbered where two paths give one name.
func mountPoints(c *rawConfig) []types.MountPoint {
	out := []types.MountPoint{}
	used := map[string]int{}
	for _, p := range slices.Sorted(maps.Keys(c.Volumes)) {
		name, err := types.SanitizeACName(path.Join("volume", p))
		if err != nil || p == "" {
			continue
		}
		n := used[name]
		used[name]++
		if n > 0 {
			name = fmt.Sprintf("%s-%d", name, n)
		}
		out = append(out, types.MountPoint{Name: types.ACName(name), Path: p})
	}
	slices.SortStableFunc(out, func(a, b types.MountPoint) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return out
}

// appPorts are sorted by name: the key of ExposedPorts in the alphabet of AC names. A range is one port with a count.
func appPorts(c *rawConfig) []types.Port {
	out := []types.Port{}
	for _, key := range slices.Sorted(maps.Keys(c.ExposedPorts)) {
		p, n := portRange(key)
		name, err := types.SanitizeACName(key)
		if err != nil || n == 0 {
			continue
		}
		out = append(out, types.Port{Name: types.ACName(name), Protocol: p.Proto, Port: uint(p.Number), Count: uint(n)})
	}
	slices.SortStableFunc(out, func(a, b types.Port) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return out
}
