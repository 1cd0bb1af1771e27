package dockerapi

import (
	"cmp"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/registry"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// classicWay is how a person gets what brig does.
const classicWay = "brig builds without BuildKit: set DOCKER_BUILDKIT=0, or leave buildx out"

// registryConfigHeader holds base64 of a JSON object of credentials by registry.
const registryConfigHeader = "X-Registry-Config"

// buildRequest reads all that the query and the headers of POST /build say, but for the context. Errors are Invalid or NotImplemented.
func (s *Server) buildRequest(r *request) (brig.BuildRequest, error) {
	q := r.query
	b := brig.BuildRequest{
		Dockerfile: q.Get("dockerfile"), Target: q.Get("target"), NoCache: r.flag("nocache"), Pull: r.flag("pull"), Quiet: r.flag("q"),
		ForceRemove: r.flag("forcerm"), Keep: !r.flagOr("rm", true) && q.Get("rm") != "" && !r.flag("forcerm"), Network: q.Get("networkmode"),
		Auths: authsFromHeader(r.Header.Get(registryConfigHeader)),
	}
	if err := refusedBuild(q); err != nil {
		return b, err
	}
	var err error
	if b.Tags, err = buildTags(q["t"]); err != nil {
		return b, err
	}
	if b.Platform, err = s.platform(r); err != nil {
		return b, err
	}
	for _, doc := range []struct {
		name, what string
		into       any
	}{{"buildargs", "build args", &b.Args}, {"labels", "labels", &b.Labels}, {"cachefrom", "cachefrom", &b.CacheFrom}} {
		if text := q.Get(doc.name); text != "" {
			if err := json.Unmarshal([]byte(text), doc.into); err != nil {
				return b, invalid("error reading %s: %w", doc.what, err)
			}
		}
	}
	if b.Epoch, err = epoch(b.Args); err != nil {
		return b, err
	}
	return b, s.buildLimits(r, &b)
}

// refusedBuild says why brig can't do what is asked for, in dockerd's words where it has some.
func refusedBuild(q url.Values) error {
	switch version := q.Get("version"); version {
	case "", "1":
	case "2":
		return errs.New(errs.NotImplemented, "%s", classicWay)
	default:
		return invalid("invalid version %q", version)
	}
	if outputs := q.Get("outputs"); outputs != "" && outputs != "null" && outputs != "[]" {
		return errs.New(errs.NotImplemented, "outputs (docker build --output) are BuildKit's: %s", classicWay)
	}
	switch isolation := q.Get("isolation"); {
	case truth(q.Get("squash")):
		return invalid("squash is only supported with experimental mode")
	case q.Get("remote") == "client-session":
		return invalid("a context that comes over a session is BuildKit's: %s", classicWay)
	case q.Get("securityopt") != "" && q.Get("securityopt") != "null" && q.Get("securityopt") != "[]":
		return invalid("The daemon on this platform does not support setting security options on build")
	case isolation != "" && !strings.EqualFold(isolation, "default"):
		return invalid("Unsupported isolation: %q", isolation)
	}
	return nil
}

// buildTags checks the names that the image shall get. Empty ones are left out.
func buildTags(names []string) (out []string, err error) {
	for _, name := range names {
		if name == "" {
			continue
		}
		ref, err := parseImageRef(name, "")
		if err != nil {
			return nil, err
		}
		if ref.digest {
			return nil, invalid("build tag cannot contain a digest")
		}
		out = append(out, name)
	}
	return out, nil
}

// epoch reads the build arg SOURCE_DATE_EPOCH, in seconds; BuildKit takes it for the image's times too.
func epoch(args map[string]*string) (*time.Time, error) {
	v := args["SOURCE_DATE_EPOCH"]
	if v == nil || *v == "" {
		return nil, nil
	}
	seconds, err := strconv.ParseInt(*v, 10, 64)
	if err != nil {
		return nil, invalid("invalid SOURCE_DATE_EPOCH: %s", *v)
	}
	at := time.Unix(seconds, 0).UTC()
	return &at, nil
}

// buildLimits reads what RUN's containers get, and checks it as a container's. dockerd looks at it only when the first RUN begins.
func (s *Server) buildLimits(r *request, b *brig.BuildRequest) error {
	var h container.HostConfig
	for _, n := range []struct {
		name string
		into *int64
	}{
		{"memory", &h.Memory}, {"memswap", &h.MemorySwap}, {"cpushares", &h.CPUShares}, {"cpuperiod", &h.CPUPeriod}, {"cpuquota", &h.CPUQuota},
		{"shmsize", &h.ShmSize},
	} {
		text := r.query.Get(n.name)
		if text == "" {
			continue
		}
		var err error
		if *n.into, err = strconv.ParseInt(text, 10, 64); err != nil {
			return invalid("invalid value for %s: %q is not a number", n.name, text)
		}
	}
	h.CpusetCpus, h.CpusetMems, h.CgroupParent = r.query.Get("cpusetcpus"), r.query.Get("cpusetmems"), r.query.Get("cgroupparent")
	h.ExtraHosts = r.query["extrahosts"]
	if text := r.query.Get("ulimits"); text != "" {
		var list []*units.Ulimit
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return invalid("error reading ulimit settings: %w", err)
		}
		h.Ulimits = list
	}
	t := &translation{minor: int(r.version), host: s.host, c: &container.Config{}, h: &h}
	for _, step := range []func(*translation) error{
		(*translation).memory, (*translation).cpu, (*translation).processLimits, (*translation).resolver, (*translation).namespaces,
	} {
		if err := step(t); err != nil {
			return err
		}
	}
	b.Limits, b.Ulimits, b.ExtraHosts = t.spec.Limits, t.spec.Ulimits, t.spec.ExtraHosts
	b.ShmSize, b.CgroupParent = t.spec.ShmSize, t.spec.CgroupParent
	return nil
}

// authsFromHeader reads X-Registry-Config. As with X-Registry-Auth, what can't be read is no credentials. The result's keys are hosts as
// they stand in references: docker.io, localhost:5000.
func authsFromHeader(header string) map[string]brig.Auth {
	doc, err := decodeBase64(header)
	if err != nil || len(doc) == 0 {
		return nil
	}
	var all map[string]registry.AuthConfig
	if json.Unmarshal(doc, &all) != nil {
		return nil
	}
	out := map[string]brig.Auth{}
	for server, c := range all {
		out[registryHost(server)] = authOf(c)
	}
	return out
}

// registryHost is the host of a registry as clients name it in their configuration: a host, or a URL.
func registryHost(server string) string {
	_, rest, found := strings.Cut(server, "://")
	host, _, _ := strings.Cut(cmp.Or(rest, server), "/")
	if found && host == "index.docker.io" || server == "index.docker.io" || server == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}
