# Reads the Makefile: `##@ Section`, `target: ## text`, and `VARIABLE ?= value` with `## text` above it.
BEGIN { FS = ":.*## "; print "Usage: make TARGET [VARIABLE=value ...]" }
/^##@ / { printf "\n%s\n", substr($0, 5) }
/^[a-z-]+:.*## / { printf "  %-16s %s\n", $1, $2 }
/^## / { text = substr($0, 4) }
/^[A-Z_]+ \?=/ {
  split($0, part, / \?= ?/)
  value = part[2] ~ /\$/ ? "" : part[2]
  variables = variables sprintf("  %-14s %-15s %s\n", part[1], value, text)
}
END { printf "\nVariables\n%s", variables }
