package podspec

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/jsondoc"
)

// Unknown is an isolator that the schema has no type for.
type Unknown struct {
	App   string // "": the pod's, or the image's only app
	Name  string
	Value json.RawMessage
}

// ParseImage reads and checks an image manifest by the specification's schema. An executor may ignore isolators that it doesn't know, but
// the schema refuses an app that has one: they are taken out, and named. Invalid: it is no image manifest, with the reason.
func ParseImage(manifest []byte) (*schema.ImageManifest, []Unknown, error) {
	var im schema.ImageManifest
	unknown, err := parse(manifest, &im)
	if err == nil {
		err = checkVersion(im.ACVersion)
	}
	return &im, unknown, err
}

// ParsePod reads and checks a pod manifest or a template of one, whose apps may lack their images' IDs. Isolators are treated as ParseImage does.
func ParsePod(manifest []byte) (*schema.PodManifest, []Unknown, error) {
	pm := schema.BlankPodManifest()
	unknown, err := parse(manifest, pm)
	if err == nil {
		err = checkVersion(pm.ACVersion)
	}
	if err != nil {
		return nil, nil, errs.Wrap(err, "invalid pod manifest")
	}
	for i, a := range pm.Apps {
		if a.Name.Empty() {
			return nil, nil, errs.New(errs.Invalid, "invalid pod manifest: the name of app %d is missing", i+1)
		}
		for _, m := range a.Mounts {
			if m.Volume.Empty() || m.Path == "" {
				return nil, nil, errs.New(errs.Invalid, "invalid pod manifest: a mount of app %s lacks its volume or path", a.Name)
			}
		}
	}
	return pm, unknown, nil
}

func parse(doc []byte, into any) ([]Unknown, error) {
	if err := jsondoc.Check(doc); err != nil {
		return nil, err
	}
	known, unknown, err := withoutUnknown(doc)
	if err == nil {
		err = json.Unmarshal(known, into)
	}
	if err == nil {
		err = whole(into)
	}
	return unknown, errs.As(errs.Invalid, err)
}

// whole has the schema check what it only checks where it is written: fields that are missing.
func whole(v any) error {
	if pm, ok := v.(*schema.PodManifest); ok { // templates lack IDs, which can't be written
		c := *pm
		c.Apps = nil
		v = &c
		for _, a := range pm.Apps {
			if a.App == nil {
				continue
			}
			if _, err := json.Marshal(a.App); err != nil {
				return fmt.Errorf("app %s: %w", a.Name, err)
			}
		}
	}
	_, err := json.Marshal(v)
	return err
}

func checkVersion(v types.SemVer) error {
	known := schema.AppContainerVersion
	if v.Major != known.Major || v.Minor > known.Minor {
		return errs.New(errs.Invalid, "acVersion %s is not known; the newest that is, is %s", v, known)
	}
	return nil
}

// withoutUnknown takes the isolators that nobody knows out of a pod's or an image's manifest.
func withoutUnknown(doc []byte) ([]byte, []Unknown, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(doc, &top); err != nil {
		return nil, nil, err
	}
	if err := plainKeys(top, "app", "apps"); err != nil {
		return nil, nil, err
	}
	all, err := dropUnknown(top, "")
	if err != nil {
		return nil, nil, err
	}
	if raw := top["app"]; len(raw) > 0 {
		more, err := dropIn(top, "app", "")
		if err != nil {
			return nil, nil, err
		}
		all = append(all, more...)
	}
	var apps []map[string]json.RawMessage
	if raw := top["apps"]; len(raw) > 0 && json.Unmarshal(raw, &apps) == nil { // what is wrong with them the schema will say
		for _, a := range apps {
			if err := plainKeys(a, "app", "name"); err != nil {
				return nil, nil, err
			}
			var name string
			json.Unmarshal(a["name"], &name) // likewise
			more, err := dropIn(a, "app", name)
			if err != nil {
				return nil, nil, err
			}
			all = append(all, more...)
		}
		if top["apps"], err = json.Marshal(apps); err != nil {
			return nil, nil, err
		}
	}
	if len(all) == 0 {
		return doc, nil, nil
	}
	out, err := json.Marshal(top)
	return out, all, err
}

// dropIn is dropUnknown for the object that a key of outer holds.
func dropIn(outer map[string]json.RawMessage, key, app string) ([]Unknown, error) {
	var inner map[string]json.RawMessage
	if json.Unmarshal(outer[key], &inner) != nil || inner == nil {
		return nil, nil // the schema will say what is wrong with it
	}
	unknown, err := dropUnknown(inner, app)
	if err != nil || len(unknown) == 0 {
		return nil, err
	}
	outer[key], err = json.Marshal(inner)
	return unknown, err
}

func dropUnknown(obj map[string]json.RawMessage, app string) ([]Unknown, error) {
	if err := plainKeys(obj, "isolators"); err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if json.Unmarshal(obj["isolators"], &list) != nil {
		return nil, nil
	}
	kept, unknown := []json.RawMessage{}, []Unknown(nil)
	for _, raw := range list {
		var i struct {
			Name  types.ACIdentifier
			Value json.RawMessage
		}
		if err := json.Unmarshal(raw, &i); err != nil {
			return nil, fmt.Errorf("an isolator: %w", err)
		}
		if i.Name == "" {
			return nil, fmt.Errorf("an isolator has no name")
		}
		if !knownIsolator(i.Name) {
			unknown = append(unknown, Unknown{app, i.Name.String(), i.Value})
			continue
		}
		if len(i.Value) == 0 || string(i.Value) == "null" { // which the schema doesn't survive
			return nil, fmt.Errorf("the isolator %s has no value", i.Name)
		}
		kept = append(kept, raw)
	}
	if len(unknown) == 0 {
		return nil, nil
	}
	var err error
	obj["isolators"], err = json.Marshal(kept)
	return unknown, err
}

// plainKeys refuses keys that the schema would take for one of names, but this package wouldn't.
func plainKeys(obj map[string]json.RawMessage, names ...string) error {
	for k := range obj {
		for _, n := range names {
			if k != n && strings.EqualFold(k, n) {
				return fmt.Errorf("the key %q must be written %q", k, n)
			}
		}
	}
	return nil
}

func knownIsolator(name types.ACIdentifier) bool {
	for _, set := range []map[types.ACIdentifier]struct{}{types.LinuxIsolatorNames, types.ResourceIsolatorNames, types.UnixIsolatorNames} {
		if _, ok := set[name]; ok {
			return true
		}
	}
	return false
}
