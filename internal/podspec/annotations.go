package podspec

import (
	"slices"

	"github.com/appc/spec/schema/types"
)

// Annotations are an image's with an app's over them, as the metadata service shows them: an annotation of both keeps its place and has
// the app's value. It is never nil.
func Annotations(image, app types.Annotations) types.Annotations {
	out := slices.Clone(image)
	if out == nil {
		out = types.Annotations{}
	}
	for _, a := range app {
		out.Set(a.Name, a.Value)
	}
	return out
}
