# assent: one Makefile, nothing recursive about the build. `make help` lists the targets.
#
#   make CC=clang             the other compiler
#   make WERROR=1             warnings are errors (CI and lint)
#   make V=1                  show the commands
#   make BUILD=/tmp/x         everything that is made goes there
#   make SANITIZE=address,undefined BUILD=/tmp/asan
#
# Sources are found by wildcard: a new file needs no edit here.

ifeq ($(origin CC),default)
CC := gcc
endif
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:

BUILD    ?= build
WERROR   ?=
SANITIZE ?=
# Where make install puts things: PREFIX=/usr LIBDIR=/usr/lib/x86_64-linux-gnu as Debian does.
PREFIX   ?= /usr/local
prefix   ?= $(PREFIX)
LIBDIR   ?= $(prefix)/lib
DESTDIR  ?=
VERSION  := 0.1.0
# libassent's soname. It grows with the first release that breaks what the one before promised.
SOVERSION := 0

OPT      ?= -O2 -g
IS_CLANG := $(findstring clang,$(shell $(CC) --version 2>/dev/null | head -n 1))
PKGS     := libmicrohttpd jansson libpq libuv libcurl libcrypto
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
JOBS      = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 2))

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wold-style-definition -Wpointer-arith -Wwrite-strings -Wvla -Wformat=2 -Wundef \
	-Wswitch-enum -Wimplicit-fallthrough -Wcast-align -Wcast-qual -Wconversion \
	-Wdouble-promotion -Wnull-dereference
GCCWARN := -Wlogical-op -Wduplicated-cond -Wduplicated-branches -Wjump-misses-init \
	-Wstringop-overflow=4 -Wformat-truncation=2 -Wformat-overflow=2

# The sanitizers replace what _FORTIFY_SOURCE checks, and make GCC's flow warnings guess
# wrong, so there they are never errors.
ifeq ($(SANITIZE),)
HARDEN    := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
FLOWWARN  := $(if $(IS_CLANG),,$(GCCWARN))
SANFLAGS  :=
else
HARDEN    :=
FLOWWARN  := -Wno-null-dereference
SANFLAGS  := -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
endif

ALL_CPPFLAGS = -I. -Icoordinator -D_GNU_SOURCE $(HARDEN) -DASSENT_VERSION='"$(VERSION)"' \
	$(PKG_CFLAGS) $(CPPFLAGS)
ALL_CFLAGS   = -std=c11 $(OPT) $(WARN) $(FLOWWARN) $(if $(WERROR),$(if $(SANITIZE),,-Werror)) \
	-fstack-protector-strong $(SANFLAGS) $(CFLAGS)
ALL_LDFLAGS  = -Wl,-z,relro,-z,now -Wl,--as-needed $(SANFLAGS) $(LDFLAGS)
COMPILE      = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS)
LINK         = $(CC) $(ALL_LDFLAGS)

# ---- what there is -------------------------------------------------------------------------

comma  := ,
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

PARTS     := base core io node api
# What only the daemon has: its allocator would be every test's otherwise.
main_src  := $(wildcard coordinator/node/main.c coordinator/node/malloc.c)
base_src  := $(wildcard coordinator/base/*.c)
core_src  := $(wildcard coordinator/core/*.c)
io_src    := $(wildcard coordinator/io/*.c)
node_src  := $(filter-out $(main_src),$(wildcard coordinator/node/*.c))
api_src   := $(wildcard api/*.c)
cli_src   := $(wildcard api/cli/*.c)

sdk_src     := $(wildcard participants/sdk/*.c)
sample_src  := $(wildcard participants/samples/*.c)
# What they share, and no program by itself.
service_src := participants/samples/service.c
unit_src    := $(wildcard test/unit/test_*.c)
helper_src  := $(filter-out $(unit_src),$(wildcard test/unit/*.c))
golden_src  := $(wildcard test/golden/*.c)
sim_src     := $(wildcard test/sim/*.c)
bench_src   := $(wildcard test/bench/*.c)
limit_src   := $(wildcard test/bench/limit/*.c)
fuzz_src    := $(wildcard test/fuzz/fuzz_*.c)
subject_src := $(wildcard test/sdk/*.c)
shim_src    := $(wildcard test/shim/*.c)

coordinator_sql := $(sort $(wildcard sql/coordinator/[0-9]*.sql))
participant_sql := $(sort $(wildcard sql/participant/[0-9]*.sql))
coordinator_gen := $(if $(coordinator_sql),$(BUILD)/obj/gen/coordinator_sql.o)
participant_gen := $(if $(participant_sql),$(BUILD)/obj/gen/participant_sql.o)
openapi_gen := $(BUILD)/obj/gen/openapi_json.o

# One archive per room: a program takes what it uses, and a unit test of a lower room can be
# linked while a higher one does not compile (UNIT_PARTS="base core").
UNIT_PARTS ?= $(PARTS)
part_libs   = $(foreach p,$(1),$(if $($(p)_src),$(BUILD)/lib/part_$(p).a))

assentd   := $(if $(main_src),$(BUILD)/bin/assentd)
assent    := $(if $(cli_src),$(BUILD)/bin/assent)
sdk_so    := $(BUILD)/lib/libassent.so.$(SOVERSION)
sdk_a     := $(BUILD)/lib/libassent.a
sdk_libs  := $(sdk_a) $(sdk_so)
sdk_map   := $(BUILD)/gen/libassent.map
sdk_h     := participants/sdk/assent.h participants/sdk/assent_client.h
manuals   := $(BUILD)/man/libassent.done $(BUILD)/man/assentd.8
samples   := $(patsubst participants/samples/%.c,$(BUILD)/bin/%,$(filter-out $(service_src),$(sample_src)))
units     := $(patsubst test/unit/%.c,$(BUILD)/test/%,$(unit_src))
golden    := $(if $(golden_src),$(BUILD)/test/golden)
sim       := $(if $(sim_src),$(BUILD)/test/sim)
benches   := $(patsubst test/bench/%.c,$(BUILD)/test/%,$(bench_src)) $(if $(limit_src),$(BUILD)/test/limit)
fuzzers   := $(patsubst test/fuzz/%.c,$(BUILD)/test/%,$(fuzz_src))
# libFuzzer has a main() of its own.
with_fuzzer := $(findstring fuzzer,$(SANITIZE))
fuzz_main := $(if $(with_fuzzer),,test/fuzz/replay.c)
subjects  := $(patsubst test/sdk/%.c,$(BUILD)/test/%,$(subject_src))
shims     := $(patsubst test/shim/%.c,$(BUILD)/test/%.so,$(shim_src))

all_src   := $(base_src) $(core_src) $(io_src) $(node_src) $(api_src) $(cli_src) $(main_src) $(sdk_src) \
	$(sample_src) $(unit_src) $(helper_src) $(golden_src) $(sim_src) $(bench_src) \
	$(limit_src) $(fuzz_src) test/fuzz/replay.c $(subject_src) $(shim_src)

.PHONY: all tests subjects fuzzers deps run test lint asan fuzz fuzz-api faults model sim mutants contract golden-rewrite bench bench-scale abi show-abi valgrind install install-built uninstall clean help tidy toolchain FORCE

all: $(assentd) $(assent) $(sdk_libs) $(samples) $(manuals)

tests: subjects $(units) $(golden) $(sim) $(benches) $(fuzzers)

# What the tests in e2e and trouble start.
subjects: all $(subjects) $(shims) $(BUILD)/test/load $(BUILD)/test/noop

fuzzers: $(fuzzers)

# ---- rules ---------------------------------------------------------------------------------

# Objects depend on the flags and archives on their list of members, so that CC=clang or a
# deleted source in an old build directory is noticed.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(COMPILE) $(LINK))' | cmp -s - $@ || \
		printf '%s\n' '$(subst ','\'',$(COMPILE) $(LINK))' >$@

$(BUILD)/sources: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(all_src)' | cmp -s - $@ || printf '%s\n' '$(all_src)' >$@

FORCE:

# One short line per step; V=1 shows the commands.
V ?=
show = $(if $(V),,@printf '  %-4s %s\n' $(1) '$(patsubst $(BUILD)/%,%,$@)' &&)

ifeq ($(PKG_LIBS),)
toolchain:
	@echo 'make: development packages are missing; run "make deps" first' >&2; exit 1
else
toolchain:
endif

# SDK code is also linked into a shared library; everything else is position-independent only
# as far as an executable needs it.
$(BUILD)/obj/participants/sdk/%.o: MODEL = -fPIC -fvisibility=hidden
$(BUILD)/obj/gen/participant_sql.o: MODEL = -fPIC -fvisibility=hidden
$(BUILD)/obj/test/shim/%.o: MODEL = -fPIC
$(BUILD)/obj/gen/%.o: CFLAGS += -Wno-overlength-strings
$(BUILD)/obj/%.o: MODEL = -fPIE

$(BUILD)/obj/%.o: %.c $(BUILD)/flags | toolchain
	@mkdir -p $(@D)
	$(call show,CC) $(COMPILE) $(MODEL) -MMD -MP -c -o $@ $<

$(BUILD)/obj/gen/%.o: $(BUILD)/gen/%.c $(BUILD)/flags | toolchain
	@mkdir -p $(@D)
	$(call show,CC) $(COMPILE) $(MODEL) -MMD -MP -c -o $@ $<

$(BUILD)/gen/coordinator_sql.c: sql/embed.awk $(coordinator_sql) $(BUILD)/sources
	@mkdir -p $(@D)
	$(call show,SQL) LC_ALL=C awk -v name=coordinator_sql -f sql/embed.awk $(coordinator_sql) >$@

$(BUILD)/gen/participant_sql.c: sql/embed.awk $(participant_sql) $(BUILD)/sources
	@mkdir -p $(@D)
	$(call show,SQL) LC_ALL=C awk -v name=participant_sql -f sql/embed.awk $(participant_sql) >$@

$(BUILD)/gen/openapi_json.c: sql/embed.awk api/openapi.json
	@mkdir -p $(@D)
	$(call show,JSON) LC_ALL=C awk -v name=openapi_json -f sql/embed.awk api/openapi.json >$@

define archive
@mkdir -p $(@D) && rm -f $@
$(call show,AR) $(AR) rcsD $@ $(filter %.o,$^)
endef

define part_rule
$$(BUILD)/lib/part_$(1).a: $$(call objects,$$($(1)_src)) $(2) $$(BUILD)/sources
	$$(archive)
endef
$(foreach p,$(filter-out node api,$(PARTS)),$(eval $(call part_rule,$(p))))
$(eval $(call part_rule,node,$(coordinator_gen)))
$(eval $(call part_rule,api,$(openapi_gen)))

$(BUILD)/lib/libassent.a: $(call objects,$(sdk_src)) $(participant_gen) $(BUILD)/sources
	$(archive)

# What is exported is what the header declares with ASSENT_API, and nothing else.
$(sdk_map): $(sdk_h) $(BUILD)/sources
	@mkdir -p $(@D)
	$(call show,MAP) { echo 'LIBASSENT_$(SOVERSION) {' && echo 'global:' && \
		awk '/^ASSENT_API / { declaring = 1 } \
		declaring && match($$0, /assent_[a-z0-9_]+\(/) { \
			print "\t" substr($$0, RSTART, RLENGTH - 1) ";"; declaring = 0 }' $(sdk_h) && \
		echo 'local:' && echo '	*;' && echo '};'; } >$@

$(sdk_so): $(call objects,$(sdk_src)) $(participant_gen) $(sdk_map) $(BUILD)/sources
	@mkdir -p $(@D)
	$(call show,LD) $(LINK) -shared -Wl,-soname,$(@F) -Wl,--version-script=$(sdk_map) \
		-o $@ $(filter %.o,$^) $(PKG_LIBS)
	@ln -sf $(@F) $(BUILD)/lib/libassent.so

# The date is the source's, so that the same source gives the same page.
date_of = $$(LC_ALL=C date -u -d @$${SOURCE_DATE_EPOCH:-$$(stat -c %Y $(1))} '+%B %-d, %Y')
$(BUILD)/man/libassent.done: participants/sdk/man.awk $(sdk_h)
	@mkdir -p $(@D) && rm -f $(@D)/*.3
	$(call show,MAN) LC_ALL=C awk -v dir=$(@D) -v version=$(VERSION) \
		-v date="$(call date_of,participants/sdk/assent.h)" \
		-f participants/sdk/man.awk $(sdk_h) && touch $@

$(BUILD)/man/assentd.8: coordinator/man.awk $(assentd)
	@mkdir -p $(@D)
	$(call show,MAN) $(assentd) --help | LC_ALL=C awk \
		-v date="$(call date_of,coordinator/node/config.c)" -f coordinator/man.awk >$@

define program
@mkdir -p $(@D)
$(call show,LD) $(LINK) -pie -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
	$(EXTRA_LIBS) $(PKG_LIBS)
endef

$(BUILD)/bin/assentd: $(call objects,$(main_src)) $(call part_libs,$(PARTS))
	$(program)

$(BUILD)/bin/assent: $(call objects,$(cli_src)) $(call part_libs,base io node)
	$(program)

$(samples): $(BUILD)/bin/%: $(BUILD)/obj/participants/samples/%.o $(call objects,$(service_src)) $(sdk_a)
	$(program)

$(units): EXTRA_LIBS = -lcmocka
$(units): $(BUILD)/test/%: $(BUILD)/obj/test/unit/%.o $(call objects,$(helper_src)) \
		$(call part_libs,$(UNIT_PARTS)) $(sdk_a)
	$(program)

$(BUILD)/test/golden: $(call objects,$(golden_src)) $(call part_libs,base core)
	$(program)

$(BUILD)/test/sim: $(call objects,$(sim_src)) $(call part_libs,base core)
	$(program)

$(BUILD)/test/limit: $(call objects,$(limit_src)) $(call part_libs,base io)
	$(program)

$(filter-out %/limit,$(benches)): $(BUILD)/test/%: $(BUILD)/obj/test/bench/%.o $(call part_libs,$(PARTS)) $(sdk_a)
	$(program)

$(subjects): $(BUILD)/test/%: $(BUILD)/obj/test/sdk/%.o $(call objects,$(service_src)) $(sdk_a)
	$(program)

$(fuzzers): EXTRA_LIBS = $(if $(with_fuzzer),-fsanitize=fuzzer)
$(fuzzers): $(BUILD)/test/%: $(BUILD)/obj/test/fuzz/%.o $(call objects,$(fuzz_main)) \
		$(call part_libs,$(PARTS)) $(sdk_a)
	$(program)

# Loaded in front of a program's libraries (LD_PRELOAD).
$(shims): $(BUILD)/test/%.so: $(BUILD)/obj/test/shim/%.o
	@mkdir -p $(@D)
	$(call show,LD) $(LINK) -shared -Wl,-soname,$(@F) -o $@ $(filter %.o,$^)

-include $(patsubst %.o,%.d,$(call objects,$(all_src)) $(coordinator_gen) $(participant_gen) $(openapi_gen))

# clang-tidy, a stamp per file: an object is older than its sources and headers allow, so is its
# stamp. Called by test/lint.sh with CC=clang.
tidy: $(patsubst %.c,$(BUILD)/tidy/%,$(all_src))

$(BUILD)/tidy/%: $(BUILD)/obj/%.o .clang-tidy
	@mkdir -p $(@D)
	@clang-tidy --quiet $*.c -- -std=c11 $(ALL_CPPFLAGS) 2>$@.err || { cat $@.err >&2; exit 1; }
	@touch $@

# ---- what people call ----------------------------------------------------------------------
# These start make again after the packages are there, because the flags come from pkg-config.

DEPS ?= build run test
deps:
	@test/deps.sh $(DEPS)

run: deps
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=$(BUILD) all
	@exec env BUILD='$(BUILD)' /usr/bin/python3 test/demo/demo.py

test: deps
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=$(BUILD) tests
	@exec env BUILD='$(BUILD)' test/run

lint: deps
	@exec env BUILD='$(BUILD)' test/lint.sh

asan: deps
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=$(BUILD)/asan SANITIZE=address,undefined tests
	@exec env BUILD='$(BUILD)/asan' test/run --sanitized

# Not part of the tests: schemathesis comes from PyPI, pinned, into $(BUILD)/venv-fuzz. Status 77
# (of the script; make says 2) when it cannot be had.
fuzz-api: deps
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=$(BUILD) all
	@exec env BUILD='$(BUILD)' /usr/bin/python3 test/fuzz/fuzz.py

# T seconds in all, two fuzzers at a time. New inputs and crashes are kept in $(BUILD)/fuzz.
T ?= 600
fuzz:
	@test/deps.sh build fuzz
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=$(BUILD)/fuzz CC=clang \
		SANITIZE=fuzzer-no-link,address,undefined fuzzers
	@exec env BUILD='$(BUILD)/fuzz' /usr/bin/python3 test/fuzz/libfuzzer.py $(T)

# The model alone, with three participants and more crashes than in the tests.
model: deps
	@exec env BUILD='$(BUILD)' /usr/bin/python3 test/model/run --long

N    ?= 100000
sim: $(BUILD)/test/sim
	$< $(or $(SEED),1) $(N)

# Everything is killed and stopped for T seconds while clients submit; without SEED a random one.
faults: deps
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=$(BUILD) all
	@exec env BUILD='$(BUILD)' PYTHONPATH=test PYTHONDONTWRITEBYTECODE=1 \
		/usr/bin/python3 -m faults $(T) $(SEED)

# Seeded bugs, each of which a test must catch. ONLY=name for one of them, QUICK=1 for those that
# need no daemon.
ONLY  ?=
QUICK ?=
mutants: deps
	@exec test/mutants/run $(if $(QUICK),--quick) $(ONLY)

# After a change of api/openapi.yaml or of the table of problems.
contract:
	/usr/bin/python3 api/contract.py

golden-rewrite: $(BUILD)/test/golden
	$< --rewrite

bench-scale: all $(benches)
	@exec env BUILD='$(BUILD)' PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 test/bench/scale.py $(ARGS)

# PARTICIPANTS=samples: participants that do something.
PARTICIPANTS ?= noop
bench: all $(benches)
	@exec env BUILD='$(BUILD)' /usr/bin/python3 test/bench/bench.py \
		--participants $(PARTICIPANTS) $(ARGS)

# What participants built with an earlier libassent rely on, as abidiff reads it; a test compares.
# After adding a function to assent.h; after anything else that the test complains of only together
# with another SOVERSION, or before the first release.
abi: $(sdk_so)
	@$(call abi_of,$(sdk_so)) >participants/sdk/libassent.abi

# On stdout; opaque structs are nobody's business.
abi_of = mkdir -p $(BUILD)/abi && cp $(sdk_h) $(BUILD)/abi/ && \
	abidw --headers-dir $(BUILD)/abi --drop-private-types --drop-undefined-syms --no-show-locs \
	--no-corpus-path --no-comp-dir-path --no-architecture --no-elf-needed --type-id-style hash \
	$(1) | sed "s| path='[^']*/gen/| path='gen/|"
show-abi:
	@$(call abi_of,$(BUILD)/lib/libassent.so.$(SOVERSION))

# libassent's unit tests under valgrind: no error, nothing lost.
valgrind: $(filter $(BUILD)/test/test_sdk%,$(units))
	@test/deps.sh valgrind
	@for t in $^; do echo "== $$t" && valgrind -q --leak-check=full \
		--show-leak-kinds=definite,indirect,possible --errors-for-leak-kinds=definite,indirect \
		--error-exitcode=9 $$t >$(BUILD)/valgrind.log 2>&1 || \
		{ cat $(BUILD)/valgrind.log; exit 1; }; done

to_lib   := $(DESTDIR)$(LIBDIR)
to_man   := $(DESTDIR)$(prefix)/share/man
to_share := $(DESTDIR)$(prefix)/share/assent
to_unit  := $(DESTDIR)$(prefix)/lib/systemd/system
doc_dir  := $(DESTDIR)$(prefix)/share/doc/assent
libdir_pc = $(patsubst $(prefix)/%,$${prefix}/%,$(LIBDIR))

install: all
	@$(MAKE) --no-print-directory BUILD=$(BUILD) install-built

# Of what is there, so that nobody's flags make it anew.
install-built:
	install -d $(DESTDIR)$(prefix)/bin $(DESTDIR)$(prefix)/include $(to_lib)/pkgconfig $(to_unit) \
		$(to_man)/man1 $(to_man)/man3 $(to_man)/man8 \
		$(to_share)/sql $(doc_dir)/participants
	install -m 755 $(assentd) $(assent) $(samples) $(DESTDIR)$(prefix)/bin/
	install -m 644 $(sdk_a) $(to_lib)/
	install -m 644 $(sdk_so) $(to_lib)/libassent.so.$(VERSION)
	ln -sf libassent.so.$(VERSION) $(to_lib)/$(notdir $(sdk_so))
	ln -sf $(notdir $(sdk_so)) $(to_lib)/libassent.so
	install -m 644 $(sdk_h) $(DESTDIR)$(prefix)/include/
	sed -e 's|@prefix@|$(prefix)|' -e 's|@libdir@|$(libdir_pc)|' -e 's|@version@|$(VERSION)|' \
		participants/sdk/assent.pc.in >$(to_lib)/pkgconfig/assent.pc
	sed -e 's|@prefix@|$(prefix)|' coordinator/assentd.service >$(to_unit)/assentd.service
	cp -R sql/coordinator sql/participant $(to_share)/sql/
	install -m 644 api/cli/assent.1 $(to_man)/man1/
	cp -P $(BUILD)/man/*.3 $(to_man)/man3/
	install -m 644 $(BUILD)/man/assentd.8 $(to_man)/man8/
	install -m 644 README.md LICENSE api/openapi.yaml api/openapi.json $(doc_dir)/
	install -m 644 participants/README.md $(doc_dir)/participants/

# What the install of this version has put there.
uninstall:
	cd $(DESTDIR)$(prefix)/bin && rm -f $(notdir $(assentd) $(assent) $(samples))
	cd $(to_lib) && rm -f libassent.a libassent.so libassent.so.* pkgconfig/assent.pc
	cd $(DESTDIR)$(prefix)/include && rm -f $(notdir $(sdk_h))
	rm -f $(to_unit)/assentd.service $(to_man)/man8/assentd.8 \
		$(to_man)/man1/assent.1
	cd $(to_man)/man3 && rm -f assent.3 assent_*.3
	rm -rf $(to_share) $(doc_dir)

clean:
	rm -rf $(BUILD)

help:
	@echo 'make                 build $(BUILD)/bin and $(BUILD)/lib'
	@echo 'make deps            install the Debian packages that are missing'
	@echo 'make run             build, start everything and show it at work (ONCE=1: then stop)'
	@echo 'make test            every test; ends with "N passed, N failed"'
	@echo 'make lint            formatter, clang-tidy, gcc and clang with -Werror'
	@echo 'make asan            the tests under the address and undefined-behaviour sanitizers'
	@echo 'make fuzz T=600      coverage-guided fuzzers of everything untrusted (libFuzzer)'
	@echo 'make fuzz-api        requests made out of api/openapi.yaml (schemathesis, from PyPI)'
	@echo 'make faults T= SEED= kill and stop everything for T seconds while clients submit'
	@echo 'make sim SEED= N=    the simulator alone'
	@echo 'make model           three-phase commit, explored exhaustively (spin)'
	@echo 'make mutants         bugs put into a copy of the tree; the tests must catch each (ONLY=name)'
	@echo 'make golden-rewrite  accept what the golden tests print now'
	@echo 'make contract        after changing api/openapi.yaml or the table of problems'
	@echo 'make bench           measure'
	@echo 'make bench-scale     measure with a million stored, 100,000 unfinished, bursts, overload'
	@echo 'make abi             record the binary interface of libassent, after adding to assent.h'
	@echo 'make valgrind        the unit tests of libassent under valgrind'
	@echo 'make install         DESTDIR= PREFIX=/usr/local LIBDIR=PREFIX/lib; make uninstall'
	@echo 'make clean'
