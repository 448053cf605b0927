def test_a(load):
    m,e=load("hf_vit_classifier"); import numpy as np
    assert abs(np.asarray(m(e["pixel_values"]).logits)-e["logits"]).max()<1e-5
