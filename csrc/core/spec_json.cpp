// The JSON form of a model's description.
#include <algorithm>
#include <utility>

#include "dmpc/spec.hpp"
#include "json.hpp"

namespace dmpc {
namespace {

using Names = std::vector<std::string>;

const Names kModelFields = {
    "state_size", "action_size",         "horizon", "history",     "context",
    "discount",   "termination_penalty", "stages",  "environment", "recommended",
    "provenance", "format_version",      "policy"};
const Names kOptionalModelFields = {"policy"};
const Names kPolicyFields = {"layers", "width"};
const Names kStageFields = {"layers", "width",     "heads",          "head_size", "mlp",
                            "patch",  "positions", "history_tokens", "members",   "sampler"};
const Names kSamplerFields = {"rule", "angles"};
const Names kEnvironmentFields = {"id", "observation_keys", "action_low", "action_high",
                                  "control_period_s"};
const Names kRecommendedFields = {"num_samples", "action_chunk", "num_elites", "dtype"};

std::string in_quotes(std::string_view text) {
    return "'" + std::string(text.substr(0, 80)) + (text.size() > 80 ? "...'" : "'");
}

[[noreturn]] void wrong(const std::string& name, std::string_view expected,
                        const json::Value& got) {
    throw ModelFileError(name + " must be " + std::string(expected) + ", got " + json::shown(got));
}

const json::Object& object(const std::string& name, const json::Value& value) {
    if (const auto* members = value.get<json::Object>()) return *members;
    wrong(name, "an object", value);
}

const json::Array& array(const std::string& name, const json::Value& value) {
    if (const auto* items = value.get<json::Array>()) return *items;
    wrong(name, "a list", value);
}

int integer(const std::string& name, const json::Value& value) {
    const auto* number = value.get<json::Number>();
    const auto result = number ? number->integer() : std::nullopt;
    // No field's range exceeds this one; `validate` knows each field's own.
    if (!result || *result < -(1 << 30) || *result > 1 << 30) wrong(name, "an integer", value);
    return static_cast<int>(*result);
}

double real(const std::string& name, const json::Value& value) {
    if (const auto* number = value.get<json::Number>()) return number->real();
    wrong(name, "a number", value);
}

bool boolean(const std::string& name, const json::Value& value) {
    if (const bool* truth = value.get<bool>()) return *truth;
    wrong(name, "true or false", value);
}

std::string text(const std::string& name, const json::Value& value) {
    if (const auto* characters = value.get<std::string>()) return *characters;
    wrong(name, "text", value);
}

template <class T, std::size_t N>
T choice(const std::string& name, const json::Value& value, const std::array<T, N>& choices) {
    const std::string given = text(name, value);
    for (const T each : choices) {
        if (name_of(each) == given) return each;
    }
    wrong(name, in_quotes(name_of(choices[0])) + " or " + in_quotes(name_of(choices[1])), value);
}

void refuse_unknown(const std::string& name, const json::Object& members, const Names& fields) {
    for (const auto& [key, value] : members) {
        if (std::find(fields.begin(), fields.end(), key) == fields.end()) {
            throw ModelFileError(name + " has the unknown key " + in_quotes(key));
        }
    }
}

/// A JSON object with exactly the given fields, some of which may be optional, read one by one.
class Record {
public:
    Record(std::string name, const json::Value& value, const Names& fields,
           const Names& optional = {})
        : name_(std::move(name)), members_(&object(name_, value)) {
        refuse_unknown(name_, *members_, fields);
        for (const std::string& field : fields) {
            const bool needed =
                std::find(optional.begin(), optional.end(), field) == optional.end();
            if (needed && !members_->contains(field)) {
                throw ModelFileError(name_ + " lacks the key " + in_quotes(field));
            }
        }
    }

    std::string path(std::string_view field) const { return name_ + "." + std::string(field); }
    const json::Value& operator[](std::string_view field) const {
        return members_->find(field)->second;
    }
    bool has(std::string_view field) const { return members_->contains(field); }
    int integer(std::string_view field) const { return dmpc::integer(path(field), (*this)[field]); }
    double real(std::string_view field) const { return dmpc::real(path(field), (*this)[field]); }

private:
    std::string name_;
    const json::Object* members_;
};

SamplerSpec read_sampler(const std::string& name, const json::Value& value) {
    const Record record(name, value, kSamplerFields);
    SamplerSpec sampler;
    sampler.rule = choice(record.path("rule"), record["rule"],
                          std::array{SamplerRule::ddim, SamplerRule::consistency});
    for (const json::Value& angle : array(record.path("angles"), record["angles"])) {
        sampler.angles.push_back(real(record.path("angles"), angle));
    }
    return sampler;
}

StageSpec read_stage(const std::string& name, const json::Value& value) {
    const Record record(name, value, kStageFields);
    StageSpec stage;
    stage.layers = record.integer("layers");
    stage.width = record.integer("width");
    stage.heads = record.integer("heads");
    stage.head_size = record.integer("head_size");
    stage.mlp = record.integer("mlp");
    stage.patch = record.integer("patch");
    stage.positions = choice(record.path("positions"), record["positions"],
                             std::array{Positions::learned, Positions::fourier});
    stage.history_tokens = boolean(record.path("history_tokens"), record["history_tokens"]);
    stage.members = record.integer("members");
    if (!record["sampler"].null()) {
        stage.sampler = read_sampler(record.path("sampler"), record["sampler"]);
    }
    return stage;
}

PolicySpec read_policy(const json::Value& value) {
    const Record record("policy", value, kPolicyFields);
    return {.layers = record.integer("layers"), .width = record.integer("width")};
}

std::vector<std::optional<double>> read_bounds(const std::string& name, const json::Value& value) {
    std::vector<std::optional<double>> bounds;
    for (const json::Value& bound : array(name, value)) {
        bounds.push_back(bound.null() ? std::nullopt : std::optional(real(name, bound)));
    }
    return bounds;
}

EnvironmentSpec read_environment(const json::Value& value) {
    const Record record("environment", value, kEnvironmentFields);
    EnvironmentSpec environment;
    if (!record["id"].null()) environment.id = text(record.path("id"), record["id"]);
    if (const json::Value& keys = record["observation_keys"]; !keys.null()) {
        const std::string name = record.path("observation_keys");
        environment.observation_keys.emplace();
        for (const json::Value& key : array(name, keys)) {
            environment.observation_keys->push_back(text(name, key));
        }
    }
    environment.action_low = read_bounds(record.path("action_low"), record["action_low"]);
    environment.action_high = read_bounds(record.path("action_high"), record["action_high"]);
    environment.control_period_s = record.real("control_period_s");
    return environment;
}

Recommended read_recommended(const json::Value& value) {
    const json::Object& members = object("recommended", value);
    refuse_unknown("recommended", members, kRecommendedFields);
    Recommended recommended;
    for (const auto& [key, member] : members) {
        const std::string name = "recommended." + key;
        if (key == "num_samples") recommended.num_samples = integer(name, member);
        if (key == "action_chunk") recommended.action_chunk = integer(name, member);
        if (key == "num_elites") recommended.num_elites = integer(name, member);
        if (key == "dtype") recommended.dtype = text(name, member);
    }
    return recommended;
}

std::array<StageSpec, kStages.size()> read_stages(const json::Value& value) {
    Names names;
    for (const Stage stage : kStages) names.emplace_back(name_of(stage));
    const Record record("stages", value, names);
    std::array<StageSpec, kStages.size()> stages;
    for (std::size_t i = 0; i < stages.size(); ++i) {
        stages[i] = read_stage("stages." + names[i], record[names[i]]);
    }
    return stages;
}

/// Before anything else, so that a newer file is not called a wrong one.
void check_version(const json::Value& root) {
    const json::Object& members = object("model", root);
    const auto version = members.find("format_version");
    if (version == members.end()) return;
    const auto* number = version->second.get<json::Number>();
    if (number && number->integer() == kFormatVersion) return;
    throw ModelFileError("format_version " + json::shown(version->second) +
                         " is not supported: this package reads version " +
                         std::to_string(kFormatVersion));
}

template <class T>
json::Value optional_json(const std::optional<T>& value) {
    if (!value) return {nullptr};
    if constexpr (std::is_floating_point_v<T>) {
        return json::number(*value);
    } else {
        return {*value};
    }
}

json::Value to_json(const SamplerSpec& sampler) {
    json::Array angles;
    for (const double angle : sampler.angles) angles.push_back(json::number(angle));
    return {json::Object{{"rule", {std::string(name_of(sampler.rule))}}, {"angles", {angles}}}};
}

json::Value whole(std::int64_t value) { return json::number(value); }

json::Value to_json(const StageSpec& stage) {
    return {json::Object{
        {"layers", whole(stage.layers)},
        {"width", whole(stage.width)},
        {"heads", whole(stage.heads)},
        {"head_size", whole(stage.head_size)},
        {"mlp", whole(stage.mlp)},
        {"patch", whole(stage.patch)},
        {"positions", {std::string(name_of(stage.positions))}},
        {"history_tokens", {stage.history_tokens}},
        {"members", whole(stage.members)},
        {"sampler", stage.sampler ? to_json(*stage.sampler) : json::Value{nullptr}},
    }};
}

json::Value to_json(const EnvironmentSpec& environment) {
    json::Value keys{nullptr};
    if (environment.observation_keys) {
        json::Array texts;
        for (const std::string& key : *environment.observation_keys) texts.push_back({key});
        keys = {texts};
    }
    json::Array low, high;
    for (const auto& bound : environment.action_low) low.push_back(optional_json(bound));
    for (const auto& bound : environment.action_high) high.push_back(optional_json(bound));
    return {json::Object{
        {"id", optional_json(environment.id)},
        {"observation_keys", keys},
        {"action_low", {low}},
        {"action_high", {high}},
        {"control_period_s", json::number(environment.control_period_s)},
    }};
}

json::Value to_json(const Recommended& recommended) {
    json::Object members;
    if (recommended.num_samples) members["num_samples"] = whole(*recommended.num_samples);
    if (recommended.action_chunk) members["action_chunk"] = whole(*recommended.action_chunk);
    if (recommended.num_elites) members["num_elites"] = whole(*recommended.num_elites);
    if (recommended.dtype) members["dtype"] = {*recommended.dtype};
    return {members};
}

}  // namespace

ModelSpec ModelSpec::from_json(std::string_view text) {
    if (text.size() > kMaxSpecBytes) {
        throw ModelFileError("metadata 'dmpc' must be at most " + std::to_string(kMaxSpecBytes) +
                             " bytes long, got " + std::to_string(text.size()));
    }
    json::Value root;
    try {
        root = json::parse(text);
    } catch (const json::SyntaxError& error) {
        throw ModelFileError(std::string("metadata 'dmpc' is not valid JSON: ") + error.what());
    }
    check_version(root);
    const Record record("model", root, kModelFields, kOptionalModelFields);
    ModelSpec spec;
    spec.state_size = record.integer("state_size");
    spec.action_size = record.integer("action_size");
    spec.horizon = record.integer("horizon");
    spec.history = record.integer("history");
    spec.context = record.integer("context");
    spec.discount = record.real("discount");
    spec.termination_penalty = record.real("termination_penalty");
    spec.stages = read_stages(record["stages"]);
    spec.environment = read_environment(record["environment"]);
    spec.recommended = read_recommended(record["recommended"]);
    if (record.has("policy")) spec.policy = read_policy(record["policy"]);
    object("provenance", record["provenance"]);
    spec.provenance = json::write(record["provenance"]);
    spec.validate();
    return spec;
}

std::string ModelSpec::to_json() const {
    json::Object stage_members;
    for (const Stage name : kStages) {
        stage_members[std::string(name_of(name))] = dmpc::to_json(stage(name));
    }
    json::Object members{
        {"state_size", whole(state_size)},
        {"action_size", whole(action_size)},
        {"horizon", whole(horizon)},
        {"history", whole(history)},
        {"context", whole(context)},
        {"discount", json::number(discount)},
        {"termination_penalty", json::number(termination_penalty)},
        {"stages", {stage_members}},
        {"environment", dmpc::to_json(environment)},
        {"recommended", dmpc::to_json(recommended)},
        {"provenance", json::parse(provenance)},
        {"format_version", whole(format_version)},
    };
    if (policy) {
        members["policy"] = {
            json::Object{{"layers", whole(policy->layers)}, {"width", whole(policy->width)}}};
    }
    return json::write({std::move(members)});
}

std::map<std::string, std::vector<std::string>> spec_fields() {
    return {{"ModelSpec", kModelFields},
            {"StageSpec", kStageFields},
            {"SamplerSpec", kSamplerFields},
            {"EnvironmentSpec", kEnvironmentFields},
            {"PolicySpec", kPolicyFields}};
}

}  // namespace dmpc
