from harness.doctor import examine


def test_missing_weights_and_data_are_notes_with_remedies(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = {finding.what: finding for finding in examine.examine()}
    assert "harness fetch inception" in found["inception weights"].remedy
    assert "harness data digits" in found["data digits"].remedy
    assert "harness data fetch" in found["data coco256_features"].remedy
    assert "GFLOP/s a core, by " in found["matrix products"].detail
    assert {"governor", "turbo", "smt", "load", "stolen time"} <= found.keys()
