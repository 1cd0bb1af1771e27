package runtime

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// BadRecords finds the records of pods, containers, volumes, images, references and of the build cache that NewContainers, NewImages and NewSteps could not load.
func BadRecords(ctx context.Context, from Records) (bad []brig.BadRecord, err error) {
	images, pods := map[brig.Digest]bool{}, map[string]bool{"": true}
	for _, k := range []struct {
		kind  string
		check func(key string, value []byte) error
	}{
		{kindPod, func(key string, value []byte) error {
			p, err := readPod(key, value)
			pods[p.UUID()] = err == nil
			return err
		}},
		{kindContainer, func(key string, value []byte) error {
			d, err := readContainer(key, value)
			if err == nil && !pods[d.Pod] {
				err = errs.New(errs.Internal, "its pod %s has no record", d.Pod)
			}
			return err
		}},
		{kindVolume, readVolume},
		{kindImage, func(key string, value []byte) error {
			var img brig.Image
			err := json.Unmarshal(value, &img)
			if err == nil && img.ID.Hex() != key {
				err = errOtherKey
			}
			images[img.ID] = err == nil
			return err
		}},
		{kindRef, func(_ string, value []byte) error {
			var ref refRecord
			err := json.Unmarshal(value, &ref)
			if err == nil && !images[ref.Image] {
				err = errs.New(errs.Internal, "its image %s has no record", ref.Image)
			}
			return err
		}},
		{kindStep, readStep},
		{kindCacheDir, readCacheDir},
	} {
		list, err := from.List(ctx, k.kind)
		if err != nil {
			return nil, errs.Wrap(err, "read the records of kind %s", k.kind)
		}
		for _, r := range list {
			if err := k.check(r.Key, r.Value); err != nil {
				bad = append(bad, brig.BadRecord{Kind: k.kind, Key: r.Key, Problem: err.Error()})
			}
		}
	}
	return bad, namesOfBad(ctx, from, bad)
}

var errOtherKey = errors.New("it is another one's")

func readPod(key string, value []byte) (brig.Pod, error) {
	var p brig.Pod
	err := json.Unmarshal(value, &p)
	switch {
	case err != nil:
	case string(p.ID) != key:
		err = errOtherKey
	case p.Name == "" || len(p.Apps) == 0:
		err = errors.New("it has no name or no apps")
	}
	return p, err
}

func readContainer(key string, value []byte) (containerRecord, error) {
	var v containerRecord
	err := json.Unmarshal(value, &v)
	switch {
	case err != nil:
	case string(v.ID) != key:
		err = errOtherKey
	case v.Name == "" || v.RootFS == "":
		err = errors.New("it has no name or no root file system")
	}
	return v, err
}

func readVolume(key string, value []byte) error {
	var v brig.Volume
	err := json.Unmarshal(value, &v)
	switch {
	case err != nil:
	case v.Name != key:
		err = errOtherKey
	case v.Dataset == "":
		err = errors.New("it has no dataset")
	}
	return err
}

func readStep(key string, value []byte) error {
	var step brig.Step
	err := json.Unmarshal(value, &step)
	if err == nil && step.Key != key {
		err = errOtherKey
	}
	return err
}

func readCacheDir(key string, value []byte) error {
	var v dirRecord
	err := json.Unmarshal(value, &v)
	switch {
	case err != nil:
	case dirKey(v.ID) != key:
		err = errOtherKey
	case v.Dataset == "":
		err = errors.New("it has no dataset")
	}
	return err
}

// namesOfBad finds the names of containers and pods that can't be loaded: they go with them.
func namesOfBad(ctx context.Context, from Records, bad []brig.BadRecord) error {
	names, err := from.List(ctx, kindName)
	if err != nil {
		return errs.Wrap(err, "read the names of containers")
	}
	for i := range bad {
		for _, n := range names {
			if (bad[i].Kind == kindContainer || bad[i].Kind == kindPod) && string(n.Value) == bad[i].Key {
				bad[i].Also = append(bad[i].Also, n)
			}
		}
	}
	return nil
}
