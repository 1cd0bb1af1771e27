package runtime

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// An imageDoc is the config of an image that brig makes itself (OCI image specification, config.md, with what Docker adds).
type imageDoc struct {
	Architecture  string            `json:"architecture"`
	Variant       string            `json:"variant,omitempty"`
	OS            string            `json:"os"`
	OSVersion     string            `json:"os.version,omitempty"`
	OSFeatures    []string          `json:"os.features,omitempty"`
	Created       string            `json:"created"`
	Author        string            `json:"author,omitempty"`
	Comment       string            `json:"comment,omitempty"`
	DockerVersion string            `json:"docker_version,omitempty"`
	Config        configDoc         `json:"config"`
	RootFS        rootfsDoc         `json:"rootfs"`
	History       []json.RawMessage `json:"history"`
}

type rootfsDoc struct {
	Type  string        `json:"type"`
	Diffs []brig.Digest `json:"diff_ids"`
}

type historyDoc struct {
	Created   string `json:"created"`
	CreatedBy string `json:"created_by,omitempty"`
	Author    string `json:"author,omitempty"`
	Comment   string `json:"comment,omitempty"`
	Empty     bool   `json:"empty_layer,omitempty"`
}

type configDoc struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	Healthcheck  *healthcheckDoc     `json:"Healthcheck,omitempty"`
	ArgsEscaped  bool                `json:"ArgsEscaped,omitempty"`
	OnBuild      []string            `json:"OnBuild,omitempty"`
	Shell        []string            `json:"Shell,omitempty"`
}

// healthcheckDoc has its times in nanoseconds.
type healthcheckDoc struct {
	Test          []string      `json:"Test,omitempty"`
	Interval      time.Duration `json:"Interval,omitempty"`
	Timeout       time.Duration `json:"Timeout,omitempty"`
	StartPeriod   time.Duration `json:"StartPeriod,omitempty"`
	StartInterval time.Duration `json:"StartInterval,omitempty"`
	Retries       int           `json:"Retries,omitempty"`
}

// newImageDoc begins the config of an image without layers.
func newImageDoc(p brig.Platform, c *brig.ImageConfig, created time.Time) *imageDoc {
	return &imageDoc{
		Architecture: p.Architecture, Variant: p.Variant, OS: p.OS, Created: created.UTC().Format(time.RFC3339Nano),
		Config: newConfigDoc(c), RootFS: rootfsDoc{"layers", []brig.Digest{}}, History: []json.RawMessage{},
	}
}

// inherit takes over from the exact bytes of a parent's config what a child has in common with it: its layers and their history, word for
// word, and what its system needs.
func (d *imageDoc) inherit(parent []byte) error {
	var p imageDoc
	if err := json.Unmarshal(parent, &p); err != nil {
		return errs.Wrap(err, "read the parent's config")
	}
	d.OSVersion, d.OSFeatures = p.OSVersion, p.OSFeatures
	d.RootFS.Diffs = append(d.RootFS.Diffs, p.RootFS.Diffs...)
	d.History = append(d.History, p.History...)
	return nil
}

// add records a step of the image's making, of the image's time if it has none of its own, and the layer that it made: "" for none.
func (d *imageDoc) add(h historyDoc, diff brig.Digest) error {
	h.Created, h.Empty = cmp.Or(h.Created, d.Created), diff == ""
	if diff != "" {
		d.RootFS.Diffs = append(d.RootFS.Diffs, diff)
	}
	b, err := json.Marshal(h)
	d.History = append(d.History, b)
	return errs.Wrap(err, "write the image's history")
}

func newConfigDoc(c *brig.ImageConfig) configDoc {
	d := configDoc{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir, Labels: c.Labels,
		StopSignal: c.StopSignal, ArgsEscaped: c.ArgsEscaped, OnBuild: c.OnBuild, Shell: c.Shell,
		ExposedPorts: map[string]struct{}{}, Volumes: map[string]struct{}{},
	}
	for _, p := range c.Exposed {
		d.ExposedPorts[p.String()] = struct{}{}
	}
	for _, v := range c.Volumes {
		d.Volumes[v] = struct{}{}
	}
	if h := c.Health; h != nil {
		d.Healthcheck = &healthcheckDoc{h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries}
	}
	return d
}

// marshal returns the exact bytes of the config.
func (d *imageDoc) marshal() ([]byte, error) {
	b, err := json.Marshal(d)
	return b, errs.Wrap(err, "write the image's config")
}
