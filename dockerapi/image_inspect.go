package dockerapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"

	"github.com/brigd/brig/internal/brig"
)

// imageInspectDoc is moby's InspectResponse as API 1.51 and before had it, in dockerd's order.
type imageInspectDoc struct {
	ID              string `json:"Id"`
	RepoTags        []string
	RepoDigests     []string
	Parent          string // this, Comment, DockerVersion and Author are there, though empty, before 1.52
	Comment         string
	Created         *string `json:",omitempty"` // absent if the image doesn't say, from 1.44 on
	Container       *string `json:",omitempty"` // before 1.45
	ContainerConfig any     `json:",omitempty"` // before 1.45
	DockerVersion   string
	Author          string
	Config          any
	Architecture    string
	Variant         string `json:",omitempty"`
	Os              string
	Size            int64
	VirtualSize     *int64 `json:",omitempty"` // before 1.44
	GraphDriver     storage.DriverData
	RootFS          image.RootFS
	Metadata        image.Metadata
	Manifests       []image.ManifestSummary `json:",omitempty"` // from 1.48 on
}

// imageConfigDoc is the Config of an image up to 1.51: these fields are there even when empty.
type imageConfigDoc struct {
	User         string
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string
	Cmd          []string
	Healthcheck  *healthDoc `json:",omitempty"`
	ArgsEscaped  bool       `json:",omitempty"`
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string   `json:",omitempty"`
	Shell        []string `json:",omitempty"`
}

// legacyConfigDoc adds what clients before 1.50 also got: always empty.
type legacyConfigDoc struct {
	Hostname, Domainname                    string
	AttachStdin, AttachStdout, AttachStderr bool
	Tty, OpenStdin, StdinOnce               bool
	Image                                   string
	imageConfigDoc
}

// healthDoc is a health check in JSON; durations are nanoseconds.
type healthDoc struct {
	Test                                          []string      `json:",omitempty"`
	Interval, Timeout, StartPeriod, StartInterval time.Duration `json:",omitempty"`
	Retries                                       int           `json:",omitempty"`
}

func (s *Server) imageInspect(ctx context.Context, r *request) (response, error) {
	manifests, err := s.manifests(ctx, r)
	if err != nil {
		return nil, err
	}
	names, err := s.onPlatform(ctx, r, 49, r.vars["name"])
	if err != nil {
		return nil, err
	}
	i, err := s.Images.ImageGet(ctx, names[0])
	if err != nil {
		return nil, err
	}
	info, err := s.System.Info(ctx)
	if err != nil {
		return nil, err
	}
	d := newImageInspect(r.version, i, info.Driver)
	d.Manifests = manifests
	// docker-compose 1 speaks the newest version, but makes no container anew without this field of old ones.
	if strings.HasPrefix(r.UserAgent(), "docker-compose/1.") {
		d.ContainerConfig = legacyConfigDoc{}
	}
	return asJSON(http.StatusOK, d), nil
}

// newImageInspect is the version shim of image inspect (moby's API version history, v1.43 to v1.52).
func newImageInspect(v Version, i *brig.ImageInfo, driver string) imageInspectDoc {
	d := imageInspectDoc{
		ID: string(i.ID), RepoTags: nonNil(i.Tags), RepoDigests: nonNil(i.Digests),
		Architecture: i.Platform.Architecture, Variant: i.Platform.Variant, Os: i.Platform.OS, Size: i.Size,
		GraphDriver: storage.DriverData{Name: driver}, RootFS: image.RootFS{Type: "layers"},
		Author: i.Config.Author, Comment: i.Config.Comment, DockerVersion: i.Config.DockerVersion,
	}
	d.Metadata.LastTagTime = i.Tagged
	for _, l := range i.Layers {
		d.RootFS.Layers = append(d.RootFS.Layers, string(l.Diff))
	}
	if !i.Created.IsZero() || v < 44 {
		created := i.Created.UTC().Format(time.RFC3339Nano)
		d.Created = &created
	}
	if v < 44 {
		d.VirtualSize = &i.Size
	}
	config := newImageConfig(&i.Config)
	if d.Config = config; v < 50 {
		d.Config = legacyConfigDoc{imageConfigDoc: config}
	}
	if v < 45 {
		none := ""
		d.Container, d.ContainerConfig = &none, legacyConfigDoc{}
	}
	return d
}

func newImageConfig(c *brig.ImageConfig) imageConfigDoc {
	d := imageConfigDoc{
		User: c.User, Env: c.Env, Cmd: c.Cmd, ArgsEscaped: c.ArgsEscaped, WorkingDir: c.WorkingDir, Entrypoint: c.Entrypoint,
		OnBuild: c.OnBuild, Labels: c.Labels, StopSignal: c.StopSignal, Shell: c.Shell,
	}
	if len(c.Exposed) > 0 {
		d.ExposedPorts = map[string]struct{}{}
	}
	for _, p := range c.Exposed {
		d.ExposedPorts[p.String()] = struct{}{}
	}
	if len(c.Volumes) > 0 {
		d.Volumes = map[string]struct{}{}
	}
	for _, v := range c.Volumes {
		d.Volumes[v] = struct{}{}
	}
	if h := c.Health; h != nil {
		d.Healthcheck = &healthDoc{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod,
			StartInterval: h.StartInterval, Retries: h.Retries}
	}
	return d
}
