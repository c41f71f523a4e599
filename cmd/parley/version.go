package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// versionCmd prints what this binary is.
type versionCmd struct {
	JSON bool `help:"Print JSON."`
}

// buildVersion is set when a release is built; otherwise the module's own
// version or commit is shown.
var buildVersion string

type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Protocol string `json:"protocol"` // automerge-repo's
}

func currentVersion() versionInfo {
	v := versionInfo{Version: buildVersion, Go: runtime.Version(), Protocol: "1"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Commit = s.Value
		}
	}
	return v
}

func (c *versionCmd) Run(io streams) error {
	v := currentVersion()
	if c.JSON {
		return json.NewEncoder(io.out).Encode(v)
	}
	commit := ""
	if v.Commit != "" {
		commit = "commit " + v.Commit[:min(12, len(v.Commit))] + ", "
	}
	_, err := fmt.Fprintf(io.out, "parley %s (%s%s, automerge-repo protocol %s)\n", v.Version, commit, v.Go, v.Protocol)
	return err
}
