package convert

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/jsondoc"
)

// rawImage is an image config as Docker and the OCI image spec (config.md) write it.
type rawImage struct {
	Created       *string    `json:"created"`
	Author        string     `json:"author"`
	Comment       string     `json:"comment"`
	DockerVersion string     `json:"docker_version"`
	OS            string     `json:"os"`
	Architecture  string     `json:"architecture"`
	Variant       string     `json:"variant"`
	Config        *rawConfig `json:"config"`
	RootFS        *struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []struct {
		Created    *string `json:"created"`
		CreatedBy  string  `json:"created_by"`
		Author     string  `json:"author"`
		Comment    string  `json:"comment"`
		EmptyLayer bool    `json:"empty_layer"`
	} `json:"history"`
}

type rawConfig struct {
	User         string                     `json:"User"`
	ExposedPorts map[string]json.RawMessage `json:"ExposedPorts"`
	Env          []string                   `json:"Env"`
	Entrypoint   words                      `json:"Entrypoint"`
	Cmd          words                      `json:"Cmd"`
	Volumes      map[string]json.RawMessage `json:"Volumes"`
	WorkingDir   string                     `json:"WorkingDir"`
	Labels       map[string]string          `json:"Labels"`
	StopSignal   string                     `json:"StopSignal"`
	Shell        words                      `json:"Shell"`
	OnBuild      []string                   `json:"OnBuild"`
	ArgsEscaped  bool                       `json:"ArgsEscaped"`
	Healthcheck  *rawHealth                 `json:"Healthcheck"`
}

// rawHealth has its times in nanoseconds.
type rawHealth struct {
	Test                                          []string
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	Retries                                       int
}

// words is a list of strings that old images have as one string.
type words []string

// UnmarshalJSON accepts both forms.
func (w *words) UnmarshalJSON(b []byte) error {
	var list []string
	if err := json.Unmarshal(b, &list); err == nil {
		*w = list
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*w = words{s}
	return nil
}

// parseImage reads a config and checks what everything else rests on: the kind of root file system and the diffIDs.
func parseImage(config []byte) (*rawImage, []brig.Digest, error) {
	var raw rawImage
	if err := jsondoc.Check(config); err != nil {
		return nil, nil, errs.Wrap(err, "invalid image config")
	}
	if err := json.Unmarshal(config, &raw); err != nil {
		return nil, nil, errs.New(errs.Invalid, "invalid image config: %w", err)
	}
	if raw.RootFS == nil {
		return nil, nil, errs.New(errs.Invalid, "invalid image config: no rootfs key")
	}
	if raw.RootFS.Type != "layers" {
		return nil, nil, errs.New(errs.Invalid, "invalid image config: rootfs of type %q, want layers", raw.RootFS.Type)
	}
	var diffs []brig.Digest
	for i, s := range raw.RootFS.DiffIDs {
		d, err := brig.ParseDigest(s)
		if err != nil {
			return nil, nil, errs.Wrap(err, "image config: diff_ids[%d]", i)
		}
		diffs = append(diffs, d)
	}
	// Images that name neither were made when there was only one choice.
	if raw.OS == "" {
		raw.OS = "linux"
	}
	if raw.Architecture == "" {
		raw.Architecture = "amd64"
	}
	return &raw, diffs, nil
}

// ImageConfig reads the exact bytes of a Docker or OCI image config. Invalid: it is none.
// As dockerd it ignores unknown fields and ports that make no sense, and accepts a command that is one string.
func (c *Converter) ImageConfig(config []byte) (*brig.Document, error) {
	raw, diffs, err := parseImage(config)
	if err != nil {
		return nil, err
	}
	d := &brig.Document{
		Diffs:    diffs,
		Platform: brig.Platform{OS: raw.OS, Architecture: raw.Architecture, Variant: raw.Variant},
	}
	if d.Created, err = date(raw.Created); err != nil {
		return nil, err
	}
	for _, h := range raw.History {
		created, err := date(h.Created)
		if err != nil {
			return nil, errs.Wrap(err, "history")
		}
		d.History = append(d.History, brig.HistoryEntry{Created: created, CreatedBy: h.CreatedBy, Author: h.Author, Comment: h.Comment, Empty: h.EmptyLayer})
	}
	if raw.Config != nil {
		d.Config = execution(raw.Config)
	}
	d.Config.Author, d.Config.Comment, d.Config.DockerVersion = raw.Author, raw.Comment, raw.DockerVersion
	if n := len(d.History); d.Config.Comment == "" && n > 0 {
		d.Config.Comment = d.History[n-1].Comment // as dockerd shows it
	}
	return d, nil
}

// execution maps the config's execution part.
func execution(c *rawConfig) brig.ImageConfig {
	out := brig.ImageConfig{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir, Labels: c.Labels,
		StopSignal: c.StopSignal, Shell: c.Shell, OnBuild: c.OnBuild, ArgsEscaped: c.ArgsEscaped,
		Volumes: slices.Sorted(maps.Keys(c.Volumes)), Exposed: exposed(c.ExposedPorts),
	}
	if h := c.Healthcheck; h != nil {
		out.Health = &brig.HealthCheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	return out
}

// maxPorts bounds what ranges in ExposedPorts may add up to: all ports of all three protocols. Beyond it they are ignored.
const maxPorts = 3 * 65535

// exposed expands ExposedPorts, sorted and each port once.
func exposed(keys map[string]json.RawMessage) []brig.Port {
	var out []brig.Port
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		p, n := portRange(key)
		if len(out)+n > maxPorts {
			break
		}
		for i := range n {
			out = append(out, brig.Port{Number: p.Number + uint16(i), Proto: p.Proto})
		}
	}
	slices.SortFunc(out, func(a, b brig.Port) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(a.Proto, b.Proto))
	})
	return slices.Compact(out)
}

// portRange reads a key of ExposedPorts: a port or a range (8000-8010/tcp), as its first port and how many; 0 if it is neither.
func portRange(key string) (first brig.Port, n int) {
	num, proto, _ := strings.Cut(key, "/")
	from, to, ranged := strings.Cut(num, "-")
	first, err := brig.ParsePort(from + "/" + cmp.Or(proto, "tcp"))
	if err != nil {
		return first, 0
	}
	if !ranged {
		return first, 1
	}
	last, err := strconv.ParseUint(to, 10, 16)
	if err != nil || uint16(last) < first.Number {
		return first, 0
	}
	return first, int(last) - int(first.Number) + 1
}

// date checks an optional RFC 3339 time.
func date(s *string) (string, error) {
	if s == nil || *s == "" {
		return "", nil
	}
	if _, err := time.Parse(time.RFC3339Nano, *s); err != nil {
		return "", errs.New(errs.Invalid, "invalid image config: created: %w", err)
	}
	return *s, nil
}
