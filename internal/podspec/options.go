package podspec

import (
	"encoding/json"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// parseVolume reads NAME (an empty one), NAME=/PATH[,readOnly=BOOL][,recursive=BOOL] (a path of the host), or as appc's tools have it
// NAME,kind=empty|host[,source=/PATH][,readOnly=…][,recursive=…][,mode=…][,uid=…][,gid=…]; "=" may stand for the first comma.
func parseVolume(s string) (*types.Volume, error) {
	words := s
	if i := strings.IndexAny(s, "=,"); i < 0 {
		words += ",kind=empty"
	} else if rest := s[i+1:]; s[i] == '=' && strings.HasPrefix(rest, "/") {
		words = s[:i] + ",kind=host,source=" + rest
	} else {
		words = s[:i] + "," + rest
	}
	v, err := types.VolumeFromString(words)
	if err != nil {
		return nil, errs.New(errs.Invalid, "invalid volume %q: %w", s, err)
	}
	return v, nil
}

// parsePort reads NAME:[IP:]PORT, or with the pod's port NAME=PORT[/PROTOCOL]:[IP:]PORT, for which no image need have a port of that name.
func parsePort(s string) (*types.ExposedPort, error) {
	bad := func(why string) error { return errs.New(errs.Invalid, "invalid port %q: %s", s, why) }
	name, rest, ok := strings.Cut(s, ":")
	if !ok {
		return nil, bad("want NAME[=PORT[/PROTOCOL]]:[IP:]PORT")
	}
	name, inside, given := strings.Cut(name, "=")
	n, err := types.NewACName(name)
	if err != nil {
		return nil, bad(err.Error())
	}
	p := &types.ExposedPort{Name: *n}
	if given {
		port, err := brig.ParsePort(inside)
		if err != nil {
			return nil, bad(err.Error())
		}
		p.PodPort = &types.Port{Name: *n, Port: uint(port.Number), Protocol: port.Proto, Count: 1}
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		ip, err := netip.ParseAddr(strings.Trim(rest[:i], "[]"))
		if err != nil {
			return nil, bad(err.Error())
		}
		p.HostIP, rest = ip.AsSlice(), rest[i+1:]
	}
	num, err := strconv.ParseUint(rest, 10, 16)
	if err != nil || num == 0 {
		return nil, bad("the host's port must be a number from 1 to 65535")
	}
	p.HostPort = uint(num)
	return p, nil
}

// parseMount reads VOLUME:PATH.
func parseMount(s string, points []types.MountPoint) (*schema.Mount, error) {
	volume, target, ok := strings.Cut(s, ":")
	if !ok || target == "" {
		return nil, errs.New(errs.Invalid, "invalid mount %q: want VOLUME:PATH", s)
	}
	name, err := types.NewACName(volume)
	if err != nil {
		return nil, errs.New(errs.Invalid, "invalid mount %q: %w", s, err)
	}
	if !path.IsAbs(target) {
		i := slices.IndexFunc(points, func(m types.MountPoint) bool { return m.Name.String() == target })
		if i < 0 {
			return nil, errs.New(errs.Invalid, "invalid mount %q: the app has no mount point of that name, and the path isn't absolute", s)
		}
		target = points[i].Path
	}
	return &schema.Mount{Volume: *name, Path: target}, nil
}

func parseAnnotation(s string) (types.ACIdentifier, string, error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return "", "", errs.New(errs.Invalid, "invalid annotation %q: want NAME=VALUE", s)
	}
	n, err := types.NewACIdentifier(name)
	if err != nil {
		return "", "", errs.New(errs.Invalid, "invalid annotation %q: %w", s, err)
	}
	return *n, value, nil
}

// parseIsolator reads NAME=JSON of an isolator that there is.
func parseIsolator(s string) (*types.Isolator, error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || !json.Valid([]byte(value)) {
		return nil, errs.New(errs.Invalid, "invalid isolator %q: want NAME=JSON", s)
	}
	n, err := types.NewACIdentifier(name)
	if err == nil && !knownIsolator(*n) {
		return nil, errs.New(errs.Invalid, "unknown isolator %q", name)
	}
	if err == nil {
		var doc []byte
		if doc, err = json.Marshal(map[string]any{"name": name, "value": json.RawMessage(value)}); err == nil {
			i := new(types.Isolator)
			if err = json.Unmarshal(doc, i); err == nil {
				return i, nil
			}
		}
	}
	return nil, errs.New(errs.Invalid, "invalid isolator %q: %w", s, err)
}

// app is the image's app with the options over it.
func (o *AppOptions) app(im *schema.ImageManifest) (*types.App, error) {
	a := types.App{User: "0", Group: "0"}
	if im.App != nil {
		a = *im.App
	}
	if len(o.Exec) > 0 {
		a.Exec = o.Exec
	}
	a.Exec = append(slices.Clone(a.Exec), o.Args...)
	a.User, a.Group = o.identity(&a, fromDocker(im))
	if len(o.SupplementaryGIDs) > 0 {
		a.SupplementaryGIDs = o.SupplementaryGIDs
	}
	if o.WorkingDirectory != "" {
		a.WorkingDirectory = o.WorkingDirectory
	}
	a.Environment = slices.Clone(a.Environment)
	for _, kv := range o.Env {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, errs.New(errs.Invalid, "invalid variable %q: want NAME=VALUE", kv)
		}
		a.Environment.Set(k, v)
	}
	a.Isolators = slices.Clone(a.Isolators)
	for _, s := range o.Isolators {
		i, err := parseIsolator(s)
		if err != nil {
			return nil, err
		}
		a.Isolators.ReplaceIsolatorsByName(*i, []types.ACIdentifier{i.Name})
	}
	if _, err := json.Marshal(a); err != nil {
		return nil, errs.As(errs.Invalid, err)
	}
	return &a, nil
}

// identity returns user and group. An image of Docker's without a group has the user's name in its place, which stands for the group that
// passwd gives that user.
func (o *AppOptions) identity(a *types.App, docker bool) (user, group string) {
	user, group = a.User, a.Group
	if o.User != "" {
		if user = o.User; docker {
			group = user
		}
	}
	if o.Group != "" {
		group = o.Group
	}
	return user, group
}
