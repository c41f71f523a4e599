# make run    start the server on loopback with a sample transaction, and say how to join it
# make web    build the page that the server hands to browsers; make run does it first
# make test   every test: Go with the race detector, real JavaScript clients, a real browser, the binary
# make test-go, test-js, test-nodes, test-web: parts of that
# make bench  Go benchmarks, compared with those of make bench-baseline; make fuzz: every fuzz target for FUZZTIME each
# make vuln   known faults of Go and of the packages, as far as they can be reached from here (asks vuln.go.dev)
# make soak   the simulation of clients, server, network and disk, with new seeds for SOAK seconds; then the real
#             binary under faults, as long as they take in production
# On a fresh machine with Go, gcc, Node and npm these do all the set-up.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

LISTEN   ?= 127.0.0.1:8080
DATA     ?= tmp/run
FUZZTIME ?= 1m
SOAK     ?= 600
COUNT    ?= 6
BENCH    ?= .

INTEROP := testdata/interop
WEB     := server/web
PAGE    := $(WEB)/page/dist/transaction.html.gz
BIN     := bin/parley

.PHONY: run web page test test-go test-js test-nodes test-web lint vuln bench bench-baseline fuzz soak clean binary

run: page
	@$(MAKE) --no-print-directory binary
	@$(BIN) serve --dev --plain-documents --listen $(LISTEN) --data $(DATA) & server=$$!; \
	trap 'kill $$server 2>/dev/null; wait $$server || true' EXIT; trap 'exit 0' INT TERM; \
	until $(BIN) open sample --fields testdata/sample.json --server ws://$(LISTEN) --user host --role host >/dev/null 2>&1; \
	  do kill -0 $$server 2>/dev/null || exit 1; sleep 0.1; done; \
	echo; \
	echo "The transaction \"sample\" is open. In a browser: http://$(LISTEN)/"; \
	echo "or in two other terminals:"; \
	echo "    $(BIN) join sample --server ws://$(LISTEN) --user alice"; \
	echo "    $(BIN) join sample --server ws://$(LISTEN) --user bob"; \
	echo "Any automerge-repo client can connect to ws://$(LISTEN); README.md shows one. Stop with Ctrl-C."; \
	wait $$server

binary:
	@mkdir -p bin
	@go build -o $(BIN) ./cmd/parley

web: $(PAGE)
	@:

# What can do without the page goes on without it.
page:
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory web; \
	  else echo "There will be no page in the browser: install Node 20 and npm for that"; fi

$(PAGE): $(WEB)/node_modules/.installed $(shell find $(WEB)/page $(WEB)/client $(WEB)/build testdata/sample.json -type f -not -path '*/dist/*' 2>/dev/null)
	@go run ./$(WEB)/build

$(WEB)/node_modules/.installed: $(WEB)/package-lock.json
	@echo "Installing the packages of the page"
	@cd $(WEB) && npm ci --silent --no-audit --no-fund && touch node_modules/.installed

# The real clients wait for most of their time, on one server and on several: both at once.
test:
	@$(MAKE) --no-print-directory test-go
	@$(MAKE) --no-print-directory -j2 --output-sync=target test-js test-nodes
	@$(MAKE) --no-print-directory test-web

test-go: $(INTEROP)/node_modules/.package-lock.json
	@.ci/postgres
	@.ci/gotest -race -shuffle=on ./...

test-js: binary $(INTEROP)/node_modules/.package-lock.json
	@cd $(INTEROP) && PARLEY_BIN=$(CURDIR)/$(BIN) npm test --silent

# What clients may expect of one server they may expect of several, whichever they meet.
NODES := convergence ephemeral gossip transaction presence

test-nodes: binary $(INTEROP)/node_modules/.package-lock.json
	@.ci/postgres
	@cd $(INTEROP) && if node postgres.mjs; then PARLEY_NODES=3 PARLEY_BIN=$(CURDIR)/$(BIN) \
	  node --test --test-concurrency=1 --test-force-exit --test-reporter=spec $(NODES:=.test.mjs); fi

# The page is in the binary that the tests start, so it is built first.
test-web: web
	@.ci/chromium
	@$(MAKE) --no-print-directory binary
	@cd $(WEB) && npm run --silent check && node_modules/.bin/tsc --noEmit -p page
	@cd $(WEB) && PARLEY_BIN=$(CURDIR)/$(BIN) npm test --silent
	@cd $(WEB) && PARLEY_BIN=$(CURDIR)/$(BIN) node --test --test-concurrency=1 --test-reporter=spec browser/*.test.mjs

$(INTEROP)/node_modules/.package-lock.json: $(INTEROP)/package-lock.json
	@echo "Installing the JavaScript clients that the tests run"
	@cd $(INTEROP) && npm ci --silent --no-audit --no-fund && touch node_modules/.package-lock.json

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "make lint: run gofmt -w on these" >&2; exit 1; }
	@go vet ./...
	@go tool staticcheck ./...
	@go mod tidy -diff

# It is not part of make test: what it finds changes without any change here.
vuln:
	@go run golang.org/x/vuln/cmd/govulncheck@latest ./...

# The figures of one machine say nothing of another's, so the baseline is not in the tree: make bench-baseline at one
# commit, make bench at another, and benchstat says what differs.
bench:
	@mkdir -p tmp/bench
	@go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) ./... | tee tmp/bench/new.txt
	@if [ -f tmp/bench/baseline.txt ]; then go tool benchstat tmp/bench/baseline.txt tmp/bench/new.txt; \
	  else echo "make bench: nothing to compare with: make bench-baseline saves these figures as the baseline"; fi

bench-baseline:
	@mkdir -p tmp/bench
	@go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) ./... | tee tmp/bench/baseline.txt

fuzz:
	@.ci/fuzz $(FUZZTIME)

soak:
	@PARLEY_SOAK=$(SOAK) go test -timeout 0 -count 1 -v -run '^TestSoak$$' ./sync/session/sim
	@PARLEY_SOAK=$(SOAK) go test -timeout 0 -count 1 -v -run '^Test(Fault|Kill$$|ReceiptsAfterKills$$)' ./cmd/parley

clean:
	@rm -rf bin tmp $(INTEROP)/node_modules $(WEB)/node_modules $(WEB)/dist
	@find $(WEB)/page/dist -mindepth 1 -not -name .gitkeep -delete
