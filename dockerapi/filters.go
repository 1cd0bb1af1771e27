package dockerapi

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// filters are a request's filters: for each key the values, of which one must match (label: all of them).
type filters map[string][]string

// parseFilters reads both forms that clients send: {"k":{"v":true}} and, before API 1.22, {"k":["v"]}. Values are sorted.
func parseFilters(s string) (filters, error) {
	if s == "" {
		return filters{}, nil
	}
	f := filters{}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s), &raw); err != nil {
		return nil, errs.New(errs.Invalid, "invalid filter: %w", err)
	}
	for key, doc := range raw {
		var set map[string]bool
		var list []string
		switch {
		case json.Unmarshal(doc, &set) == nil:
			for v, on := range set {
				if on {
					list = append(list, v)
				}
			}
		case json.Unmarshal(doc, &list) == nil:
		default:
			return nil, errs.New(errs.Invalid, "invalid filter: the values of %q are neither an object nor a list of strings", key)
		}
		slices.Sort(list)
		f[key] = slices.Compact(list)
	}
	return f, nil
}

// check refuses keys that are not known, in dockerd's words.
func (f filters) check(known ...string) error {
	for _, k := range f.keys() {
		if !slices.Contains(known, k) {
			return errs.New(errs.Invalid, "invalid filter '%s'", k)
		}
	}
	return nil
}

func (f filters) keys() []string {
	keys := make([]string, 0, len(f))
	for k := range f {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// has reports whether key is filtered by.
func (f filters) has(key string) bool { return len(f[key]) > 0 }

// exact reports whether value is one of key's values, or key isn't filtered by.
func (f filters) exact(key, value string) bool {
	return !f.has(key) || slices.Contains(f[key], value)
}

// anyOf reports whether match holds for one of key's values, or key isn't filtered by.
func (f filters) anyOf(key string, match func(value string) bool) bool {
	return !f.has(key) || slices.ContainsFunc(f[key], match)
}

// prefix reports whether value begins with one of key's values, or key isn't filtered by.
func (f filters) prefix(key, value string) bool {
	return f.anyOf(key, func(p string) bool { return strings.HasPrefix(value, p) })
}

// pattern reports whether one of key's values, as a regular expression, matches somewhere in value, or, where it is no regular
// expression, is contained in it; or key isn't filtered by.
func (f filters) pattern(key, value string) bool {
	return f.anyOf(key, func(p string) bool {
		re, err := regexp.Compile(p)
		if err != nil {
			return strings.Contains(value, p)
		}
		return re.MatchString(value)
	})
}

// labels reports whether all of key's values ("name" or "name=value") are among labels, or key isn't filtered by.
func (f filters) labels(key string, labels map[string]string) bool {
	for _, want := range f[key] {
		name, value, withValue := strings.Cut(want, "=")
		got, ok := labels[name]
		if !ok || (withValue && got != value) {
			return false
		}
	}
	return true
}

// labelsMatch applies the filters label and label! (prune's), as dockerd does.
func (f filters) labelsMatch(labels map[string]string) bool {
	if !f.labels("label", labels) {
		return false
	}
	return !f.has("label!") || !f.labels("label!", labels)
}

// boolean returns the value of a filter that is true or false; ok is false if it isn't filtered by.
func (f filters) boolean(key string) (value, ok bool, err error) {
	if !f.has(key) {
		return false, false, nil
	}
	yes := slices.Contains(f[key], "1") || slices.Contains(f[key], "true")
	no := slices.Contains(f[key], "0") || slices.Contains(f[key], "false")
	if yes == no {
		return false, false, errs.New(errs.Invalid, "invalid filter '%s=%v'", key, f[key])
	}
	return yes, true, nil
}

// single returns a filter's only value, "" if it isn't filtered by.
func (f filters) single(key string) (string, error) {
	switch v := f[key]; len(v) {
	case 0:
		return "", nil
	case 1:
		return v[0], nil
	default:
		return "", errs.New(errs.Invalid, "filter '%s' takes one value, not %d", key, len(v))
	}
}
